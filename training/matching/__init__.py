"""Function matching: a student learns what teachers answer to the very snippets that it is given.

After Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent": whatever is done to a
snippet is done before the teachers are asked, so that data never repeats and no label is guessed.

snippets → pool (asks the teachers) → rule (their answers as genres) → learn
"""
