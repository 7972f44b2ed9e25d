"""``python -m dsr_deploy``: the command line."""

from dsr_deploy.console.cli import main

if __name__ == "__main__":
    main()
