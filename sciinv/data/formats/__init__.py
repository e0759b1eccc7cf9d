"""One module per file format: ``NAME``, ``sniff(path) -> bool``, ``read(path, sidecar) -> Scan``."""
