"""`python -m training ARGS` is `genre-tag train ARGS`: for torchrun and accelerate, which start modules."""

import sys

from tagger.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
