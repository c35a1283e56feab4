"""`python -m bhk`: the command line."""

from bhk.cli.app import main

if __name__ == "__main__":
    main()
