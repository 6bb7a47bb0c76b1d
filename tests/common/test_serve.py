"""What the page's server answers over HTTP."""

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
    return Image.open(io.BytesIO(base64.b64decode(re.sub('^data:image/(png|jpeg);base64,', '', url))))


def test_photo_becomes_a_mask(unet):
    client = serve.make_app(unet).test_client()
    answer = client.post('/predict', data=encoded(kind='WEBP')).get_json()
    assert decoded(answer['images']['mask']).size == decoded(answer['images']['overlay']).size == (40, 30)
    assert {*answer['record']['shares']} == {'pet', 'background', 'border'}


def test_overlay_fits_a_screen_and_the_mask_keeps_every_pixel(unet):
    picture = io.BytesIO()
    Image.effect_noise((3000, 2250), 50).convert('RGB').save(picture, 'JPEG')
    answer = serve.make_app(unet).test_client().post('/predict', data=picture.getvalue())
    overlay, mask = (decoded(answer.get_json()['images'][kind]) for kind in ('overlay', 'mask'))
    assert (overlay.format, overlay.size) == ('JPEG', (1280, 960))
    assert (mask.format, mask.mode, mask.size) == ('PNG', 'P', (3000, 2250))
    assert {*np.unique(mask)} <= {0, 1, 2}


def test_description_names_run_and_colours(unet, vae_predictor, tmp_path):
    model = serve.make_app(unet).test_client().get('/model').get_json()
    assert model['name'] == tmp_path.name and (model['title'], model['data']) == ('U-Net', 'synthetic_pets')
    assert (model['step'], model['num_epochs'], model['image_size']) == (7, 2, 16)
    assert model['colors'] == {'pet': '#e67828', 'background': 'transparent', 'border': '#faf0c8'}
    assert serve.make_app(vae_predictor).test_client().get('/model').get_json()['colors'] == {}


def test_foreign_hosts_are_refused(unet):
    client = serve.make_app(unet).test_client()
    for host in ('localhost:8000', '127.0.0.1:8000', '[::1]:8000', 'localhost'):
        assert client.get('/model', headers={'Host': host}).status_code == 200, host
    for host in (
        'attacker.example',
        'attacker.example:8000',
        'localhost.attacker.example:8000',
        '192.168.0.7:8000',
        '127.0.0.1.attacker.example',
        'localhost:8000@attacker.example',
    ):
        for method, path in (('GET', '/'), ('GET', '/model'), ('POST', '/predict'), ('GET', '/no')):
            answer = client.open(path, method=method, headers={'Host': host}, data=encoded())
            assert answer.status_code == 403, (host, path)
            assert 'open the page as localhost' in answer.get_json()['error']


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
    assert 'Drop, paste or choose a picture' in page and not re.findall(r'https?://', page)


def test_missing_library_and_taken_port_are_said(unet, monkeypatch):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(UserError, match='choose another --port'):
            serve.serve(unet, taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, 'flask', None)
    with pytest.raises(UserError, match='pip install -r requirements-serve.txt'):
        serve.make_app(unet)
