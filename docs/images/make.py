"""Make the pictures of README and docs: the demo of both models with a fixed number of rows, in 256 colours.

    python docs/images/make.py [FOLDER]

Keeps banks and full-size pictures in FOLDER (default: build/images), so that it can be interrupted and run
again. Faces take about as long as `polarity demo` times four.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
ROWS = {"digits": 4096, "faces": 1024}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "build" / "images"
    for model, rows in ROWS.items():
        out = folder / model
        run = "from polarity_sampling.cli import main; main()"
        options = ["--model", model, "--out", str(out), "--rows", str(rows), "--seconds", "36000"]
        subprocess.run([sys.executable, "-c", run, "demo", *options], check=True)
        for picture in ("grid", "log_volume", "ess"):
            with Image.open(out / f"{picture}.png") as image:
                small = image.convert("RGB").quantize(256, kmeans=2)
            small.save(HERE / f"{model}-{picture}.png", optimize=True)


if __name__ == "__main__":
    main()
