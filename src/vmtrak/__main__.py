"""`python -m vmtrak` is the `vmtrak` command."""

from vmtrak.cli import main

if __name__ == "__main__":
    main(prog_name="vmtrak")
