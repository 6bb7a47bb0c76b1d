"""A local web page to try a trained model: drop a picture or draw one, and see what becomes of it."""

import base64
import io
import logging
import pathlib
import socket
import threading

from common.data.images import Unreadable, read
from common.errors import UserError
from common.serving.export import describe
from common.serving.predict import Predictor, choose_labels

PAGE = pathlib.Path(__file__).with_name('serve.html')
LARGEST = 50 * 2 ** 20  # Bytes of an upload.


def make_app(predictor: Predictor):
    """The page at /, what the model is at /model, and what it makes of a posted picture at /predict.

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
    one_by_one = threading.Lock()

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
                (images, record), = predictor.present([picture], labels)
        except Unreadable as error:
            return {'error': f'This picture cannot be read: {error}.'}, 400
        return {'images': {kind: data_url(image) for kind, image in images.items()}, 'record': record}

    return app


def data_url(image) -> str:
    """An image as a PNG that a page can hold."""
    file = io.BytesIO()
    image.save(file, 'PNG', compress_level=1)
    return f'data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'


def serve(predictor: Predictor, port: int) -> None:
    """Serves this machine alone, until Ctrl-C. Raises UserError where Flask is missing or the port taken."""
    app = make_app(predictor)
    from werkzeug.serving import make_server  # Comes with Flask.
    logging.getLogger('werkzeug').setLevel(logging.ERROR)  # Else a line for each request.
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(('127.0.0.1', port))
        except (OSError, OverflowError) as error:
            raise UserError(f'port {port} cannot be used ({error}); choose another --port') from error
        listener.listen()
        server = make_server('127.0.0.1', port, app, threaded=True, fd=listener.fileno())
        print(f'open http://127.0.0.1:{server.port} in a browser; Ctrl-C ends it', flush=True)
        server.serve_forever()
