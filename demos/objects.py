"""An object store on this machine: an S3 server, moto, which serves until its input is closed.

What it holds is in its memory, and is gone with it. By hand, until ctrl-D:

    python demos/objects.py
"""

from __future__ import annotations

import logging
import sys

import boto3
import click
from _programs import tell
from moto.server import ThreadedMotoServer

#: What programs find the server by, beside its address; it takes any keys.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


@click.command()
@click.option("--bucket", default="interlock", show_default=True)
def main(bucket: str) -> None:
    """Serve a bucket, and say how programs find it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        found = {**ENVIRONMENT, "AWS_ENDPOINT": f"http://{host}:{port}"}
        keys = {key.lower(): ENVIRONMENT[key] for key in list(ENVIRONMENT)[:2]}
        place = {"endpoint_url": found["AWS_ENDPOINT"], "region_name": found["AWS_REGION"]}
        boto3.client("s3", **place, **keys).create_bucket(Bucket=bucket)
        tell("is ready", environment=found, url=f"s3://{bucket}")
        sys.stdin.read()
    finally:
        server.stop()
    tell("done")


if __name__ == "__main__":
    main()
