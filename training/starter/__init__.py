"""How the embedded checkpoint is made: what it hears, who teaches it, what is written of it.

corpus → teachers → prepare → train → release
"""
