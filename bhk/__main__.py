"""`python -m bhk`: the command line."""

from bhk.cli.main import main

if __name__ == "__main__":
    main()
