"""An S3 server on loopback, for this process and those that it starts."""

from __future__ import annotations

import os
import urllib.request
from contextlib import contextmanager
from uuid import uuid4

import dask


@contextmanager
def s3_server():
    """Serve S3, and have obstore find it; gives the URL of a new bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint, bucket = f"http://{host}:{port}", f"bucket-{uuid4().hex}"
    mine = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    before = {key: os.environ.get(key) for key in mine}
    os.environ.update(mine)
    try:
        request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
        urllib.request.urlopen(request).close()
        with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):
            yield f"s3://{bucket}"  # who is forked has not this environment
    finally:
        server.stop()
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
