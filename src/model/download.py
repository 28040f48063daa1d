"""Download a file and compare it with its checksum."""

import logging
from pathlib import Path


def download(url: str, sha256: str, path: Path) -> str | None:
    """Download `url` to `path`, which exists only once it is complete and verified; returns what went wrong."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)  # the progress bar says what it would log
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=2**18)
        pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=downloader)
        path.chmod(0o644)  # pooch's temporary file is readable by its owner only
    except requests.HTTPError as error:
        return f"the server answered {error.response.status_code}"
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return "no connection, or the connection was lost"
    except requests.RequestException as error:
        return type(error).__name__
    except ValueError:
        return "the download is damaged: its sha256 is not the expected one"
    except OSError as error:
        return error.strerror or str(error)
    return None
