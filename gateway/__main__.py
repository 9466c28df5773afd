"""The command `gatepost`, also as `python -m gateway`."""

from gateway.commands import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
