"""Serve the model; `label-studio-ml start` and gunicorn run this file."""

from __future__ import annotations

import argparse

from label_studio_ml.api import init_app
from model import BhkSegmentAnything

app = init_app(model_class=BhkSegmentAnything)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-p", "--port", type=int, default=9090)
    parser.add_argument("--host", default="127.0.0.1")
    options, _ = parser.parse_known_args()
    app.run(host=options.host, port=options.port)
