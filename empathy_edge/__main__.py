"""`python -m empathy_edge` is `empathy-edge`."""

from empathy_edge.cli import main

if __name__ == "__main__":
    main()
