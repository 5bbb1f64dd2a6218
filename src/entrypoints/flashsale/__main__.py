"""`python -m flashsale` is the command line."""

from flashsale.cli import main

if __name__ == "__main__":
    main()
