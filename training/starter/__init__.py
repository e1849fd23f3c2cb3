"""How the embedded checkpoint is made: what it classifies, who teaches it, what is written of it.

corpus → teachers → prepare → train → release
"""
