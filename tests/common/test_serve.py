"""The web page's answers over HTTP."""

import base64
import io
import re
import socket
import sys

import numpy as np
from PIL import Image
import pytest

from common.errors import UserError
from common.serving import predict, serve
from main import make_task
from tests.helpers import save_run


@pytest.fixture
def unet(config, tmp_path):
    return predict.load(save_run(make_task(config), tmp_path), make_task)


def encoded(size=(40, 30), kind='PNG'):
    file = io.BytesIO()
    Image.linear_gradient('L').resize(size).save(file, kind)
    return file.getvalue()


def decoded(url):
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix('data:image/png;base64,'))))


def test_photo_becomes_a_mask(unet):
    client = serve.make_app(unet).test_client()
    answer = client.post('/predict', data=encoded(kind='WEBP')).get_json()
    assert decoded(answer['images']['mask']).size == decoded(answer['images']['overlay']).size == (40, 30)
    assert {*answer['record']['shares']} == {'pet', 'background', 'border'}


def test_digit_becomes_every_label(vae_predictor):
    client = serve.make_app(vae_predictor).test_client()
    images = client.post('/predict', data=encoded()).get_json()['images']
    expected = vae_predictor([Image.open(io.BytesIO(encoded()))], [3])[0, ..., 0]
    np.testing.assert_allclose(np.asarray(decoded(images['3'])), 255 * expected, atol=1)
    assert {*images} == {'grid', *'0123456789'}
    assert client.get('/model').get_json()['takes_labels']


@pytest.mark.parametrize('content', [b'', b'hello', encoded()[:60]])
def test_what_is_no_picture_is_said(unet, content):
    answer = serve.make_app(unet).test_client().post('/predict', data=content)
    assert answer.status_code == 400 and 'cannot be read' in answer.get_json()['error']


def test_page_needs_no_network(unet):
    page = serve.make_app(unet).test_client().get('/').get_data(as_text=True)
    assert 'Drop a picture here' in page and not re.findall(r'https?://', page)


def test_missing_library_and_taken_port_are_said(unet, monkeypatch):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(UserError, match='choose another --port'):
            serve.serve(unet, taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, 'flask', None)
    with pytest.raises(UserError, match='pip install -r requirements-serve.txt'):
        serve.make_app(unet)
