"""A local web page that tries a trained model: a picture is chosen or drawn there, and the prediction is shown."""

import base64
import io
import logging
import pathlib
import re
import socket
import threading

from PIL import Image

from common.data.images import Unreadable, read
from common.errors import UserError
from common.serving.export import describe
from common.serving.predict import Predictor, choose_labels

PAGE = pathlib.Path(__file__).with_name('serve.html')
LARGEST = 50 * 2**20  # Bytes of an upload.
SCREEN = 1280  # The longer side of an overlay, in pixels.
OWN_HOSTS = re.compile(r'(localhost|127\.0\.0\.1|\[::1\])(:\d+)?')


def make_app(predictor: Predictor):
    """The Flask application: the page at /, the model's description at /model, predictions at /predict.

    Raises:
        UserError: Flask is not installed.
    """
    try:
        import flask  # Optional: see requirements-serve.txt.
    except ImportError as error:
        raise UserError('--mode=serve needs Flask: pip install -r requirements-serve.txt') from error
    app = flask.Flask(__name__)
    app.config['MAX_CONTENT_LENGTH'] = LARGEST
    labels = choose_labels(predictor.task, [])
    one_by_one = threading.Lock()  # Large photos take much memory.

    @app.before_request
    def refuse_foreign_hosts():
        # A foreign site can let its own name point to this machine (DNS rebinding) and would then read the answers.
        if not OWN_HOSTS.fullmatch(flask.request.headers.get('Host', '')):
            return {'error': 'The Host header is foreign: open the page as localhost or 127.0.0.1.'}, 403

    @app.get('/')
    def page():
        return PAGE.read_text(encoding='utf-8')

    @app.get('/model')
    def model():
        return describe(predictor)

    @app.post('/predict')
    def predict():
        try:
            with one_by_one:
                picture = read(io.BytesIO(flask.request.get_data()))
                ((images, record),) = predictor.present([picture], labels)
        except Unreadable as error:
            return {'error': f'This picture cannot be read: {error}.'}, 400
        return {'images': {kind: data_url(kind, image) for kind, image in images.items()}, 'record': record}

    return app


def data_url(kind: str, image: Image.Image) -> str:
    """An image as a URL that holds it: the overlay as a JPEG that fits a screen, all others exact, as PNG."""
    file = io.BytesIO()
    if kind == 'overlay':
        image.thumbnail((SCREEN, SCREEN), reducing_gap=2)
        image.save(file, 'JPEG', quality=85)
    else:
        image.save(file, 'PNG', compress_level=3)
    mime = Image.MIME['JPEG' if kind == 'overlay' else 'PNG']
    return f'data:{mime};base64,{base64.b64encode(file.getvalue()).decode()}'


def make_server(predictor: Predictor, port: int):
    """A server that listens on this machine alone. Raises UserError where Flask is missing or the port is taken."""
    app = make_app(predictor)
    from werkzeug import serving  # Comes with Flask.

    logging.getLogger('werkzeug').setLevel(logging.ERROR)  # Else a line for each request.
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(('127.0.0.1', port))
        except (OSError, OverflowError) as error:
            raise UserError(f'port {port} cannot be used ({error}); choose another --port') from error
        listener.listen()
        return serving.make_server('127.0.0.1', port, app, threaded=True, fd=listener.fileno())


def serve(predictor: Predictor, port: int) -> None:
    """Serves the page until Ctrl-C. Raises what `make_server` raises."""
    server = make_server(predictor, port)
    print(f'open http://127.0.0.1:{server.port} in a browser; Ctrl-C ends it', flush=True)
    server.serve_forever()
