"""Show what a model thinks of a text, on a page in your browser, with your own functions behind the controls.

make play                                the bundled model
python -m src.playground --model gpt2    GPT-2 small (downloaded once, 548 MB)

The page is served on this computer only. Ctrl-C ends it.
"""

from src.grading import dependencies

dependencies.check()  # before any other import: says in one line which Python or which package is missing

import argparse
import contextlib
import logging
import os
import socket
import sys
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from src.errors import ConfigError, run_command
from src.files import ROOT, shown
from src.grading import import_guard, student_code
from src.model.config import model_config, option
from src.model.memory import use_large_pages
from src.model.threads import share_processors
from src.playground.problem import FILES, has_functions

HOST, PORT = "127.0.0.1", 8236


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.playground", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="bundled", metavar="NAME",
        help="gpt2, bundled, or a folder of checkpoints/ (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--questions", type=Path, default=ROOT / "questions", metavar="DIR", help="where your files are (questions)"
    )
    parser.add_argument("--port", type=int, metavar="N", help=f"({PORT}, or another one where it is in use)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise ConfigError(f"{' and '.join(missing)} missing; run `make play`, or pip install --group play (pip 25.1)")
    student_code.check_folder(args.questions, FILES)
    name = model_config(args.model).name
    listener = listen(args.port)
    share_processors()
    use_large_pages()
    os.environ.setdefault("TQDM_DISABLE", "1")  # each token that is drawn would print a bar
    sys.dont_write_bytecode = True  # a question file that is saved twice within a second would be taken from there
    if has_functions(args.questions):
        from src.hw1.parts import HOMEWORK

        import_guard.forbid_in_student_code(HOMEWORK.closed_packages)
    is_idle = serve(listener, name, args.questions, not args.no_browser)
    print("\nthe playground has ended", flush=True)
    if not is_idle:
        os._exit(0)  # your code still runs; PyTorch does not stand it when Python ends meanwhile
    return 0


def listen(port: int | None) -> socket.socket:
    """A socket on loopback: at `port`; by default at `PORT`, or wherever there is room.

    Raises:
        ConfigError: the port cannot be used.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there, it would let two programs share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, PORT if port is None else port))
    except (OSError, OverflowError) as error:
        if port is not None:
            reason = getattr(error, "strerror", None) or "it must lie between 0 and 65535"
            raise ConfigError(f"--port {port}: cannot be used ({reason}); choose another one") from None
        listener.bind((HOST, 0))
    listener.listen()  # whoever comes before the server is ready waits
    return listener


def serve(listener: socket.socket, name: str, questions: Path, opens_browser: bool) -> bool:
    """Load the model, and answer until Ctrl-C; whether nothing is computed any more."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            super().handle_exit(sig, frame)
            playground.is_ending = True
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is cut off now is no error

    from src.playground.server import Playground, application

    yours = None
    if has_functions(questions):
        from src.playground.yours import Yours

        yours = Yours(questions)
    playground = Playground(name, yours, ROOT / "data")
    playground.mind(name)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        application(playground, port), log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    address = f"http://{HOST}:{port}/"
    about = f"model {option(name)}" + (f", questions in {shown(questions)}" if yours else "")
    print(f"{about}\n{address}  (Ctrl-C ends it)", flush=True)
    if opens_browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])
    return playground.worker.end(seconds=2)


if __name__ == "__main__":
    run_command(main)
