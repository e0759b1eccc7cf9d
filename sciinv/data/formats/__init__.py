"""One module a file format: ``NAME``, ``sniff(path) -> bool``, ``read(path, sidecar) -> Scan``."""
