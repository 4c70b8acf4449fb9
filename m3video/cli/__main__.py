"""Run the command line with `python -m m3video.cli`."""

from m3video.cli import main

if __name__ == "__main__":
    main()
