"""`python -m tagger` is `genre-tag`."""

from tagger.cli.main import main

if __name__ == "__main__":
    main()
