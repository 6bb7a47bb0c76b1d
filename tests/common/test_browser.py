"""The web page in a real Chromium: photos, drawings, real keys, at the widths of a desktop and of a phone."""

import io
import shutil
import threading

from axe_playwright_python.sync_playwright import Axe
import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import expect, sync_playwright
import pytest

from common.report import page as page_lib
from common.serving import predict, serve
from common.task import Picture
from configs import unet_mp_tr_ce
from main import make_task
from tests.helpers import save_run

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-component-update', '--disable-sync']
TIMEOUT = 15_000  # Milliseconds; the machine may be busy.
WIDTHS = {
    'desktop': {'viewport': {'width': 1280, 'height': 800}},
    'phone': {'viewport': {'width': 390, 'height': 844}, 'has_touch': True, 'is_mobile': True},
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f'no browser: none of {", ".join(NAMES)} is installed')


def photo(kind='PNG', size=(90, 60)):
    picture = Image.new('RGB', size, 'seagreen')
    ImageDraw.Draw(picture).ellipse((20, 10, 70, 55), 'sienna')
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope='module')
def urls(vae_runs, tmp_path_factory):
    """A page of an untrained model of each task, served until the module's end."""
    config = unet_mp_tr_ce.get_config('demo')
    config.data.image_size = 16
    config.model.update({'width': 4, 'multipliers': (1, 2)})
    unet = save_run(make_task(config), tmp_path_factory.mktemp('browser') / 'my_pets')
    runs = {'unet': unet, 'vae': vae_runs / 'vae', 'classifier': vae_runs / 'classifier'}
    servers = {name: serve.make_server(predict.load(run, make_task), 0) for name, run in runs.items()}
    threads = [threading.Thread(target=server.serve_forever) for server in servers.values()]
    for thread in threads:
        thread.start()
    yield {name: f'http://127.0.0.1:{server.port}' for name, server in servers.items()}
    for server, thread in zip(servers.values(), threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope='module')
def browser(urls):  # Orbax, which the servers need at the start, does not run beside Playwright's event loop.
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def width(request):
    return WIDTHS[request.param]


@pytest.fixture
def open_page(browser, urls):
    """Opens the page of a model, whose description `changes` replaces in part; errors of its script fail the test."""
    contexts, errors = [], []

    def opened(name, width=WIDTHS['desktop'], **changes):
        contexts.append(browser.new_context(**width, permissions=['clipboard-read', 'clipboard-write']))
        contexts[-1].set_default_timeout(TIMEOUT)
        page = contexts[-1].new_page()
        page.on('pageerror', lambda error: errors.append(error))
        page.on('filechooser', lambda chooser: None)  # From the start: `expect_file_chooser` alone may be too late.
        if changes:
            page.route('**/model', lambda route: route.fulfill(json=route.fetch().json() | changes))
        page.goto(urls[name])
        expect(page.locator('#about')).not_to_be_empty()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


def upload(page, name='my cat.png'):
    """Chooses a photo through the file dialog that a click on the drop box opens."""
    with page.expect_file_chooser() as chooser:
        page.locator('#drop').click()
    chooser.value.set_files({'name': name, 'mimeType': 'image/png', 'buffer': photo()})
    done(page)


def draw(page):
    """Draws a one with the mouse."""
    box = page.locator('#canvas').bounding_box()
    x = box['x'] + box['width'] / 2
    page.mouse.move(x, box['y'] + 40)
    page.mouse.down()
    page.mouse.move(x, box['y'] + box['height'] - 40, steps=5)
    page.mouse.up()


def done(page):
    expect(page.get_by_role('status')).to_contain_text('Done.')


def focused(page):
    return page.evaluate('document.activeElement.id')


def saved(page, text):
    """The name and the image that a link saves."""
    with page.expect_download() as download:
        page.get_by_role('link', name=text).click()
    return download.value.suggested_filename, Image.open(io.BytesIO(download.value.path().read_bytes()))


def check_accessible(page):
    """axe-core finds nothing serious or critical, and the page needs no sideways scrolling."""
    found = Axe().run(page).response['violations']
    assert not [violation for violation in found if violation['impact'] in ('serious', 'critical')], found
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')


def test_photo_is_uploaded_and_its_mask_saved(open_page, width):
    page = open_page('unet', width)
    check_accessible(page)
    upload(page)
    check_accessible(page)
    expect(page.get_by_role('heading', level=1)).to_have_text('U-Net: my_pets')
    expect(page.locator('#about')).to_contain_text('synthetic_pets for 7 steps, in a run of 10 epochs')
    name, mask = saved(page, 'Save the mask')
    assert (name, mask.mode, mask.size) == ('my cat.mask.png', 'P', (90, 60))
    assert page.locator('#result').evaluate('image => image.naturalWidth') == 90
    page.get_by_role('button', name='Clear').click()
    for part in ('#result', '#preview', '#shares li', '.save'):
        expect(page.locator(part).filter(visible=True)).to_have_count(0)
    expect(page.get_by_role('status')).to_have_text('No picture yet.')


def test_bars_have_the_colours_of_the_overlay(open_page):
    page = open_page('unet')
    upload(page)
    items = {item.locator('.name').inner_text(): item for item in page.locator('#shares li').all()}
    assert {*items} == {'pet', 'background (not coloured)', 'border'}
    color = 'element => getComputedStyle(element).backgroundColor'
    for name, expected in {'pet': 'rgb(230, 120, 40)', 'border': 'rgb(250, 240, 200)'}.items():
        assert items[name].locator('.swatch').evaluate(color) == expected
        assert items[name].locator('.bar div').evaluate(color) == expected


def test_digit_is_drawn_and_its_label_chosen_by_keyboard(open_page, width):
    page = open_page('vae', width)
    draw(page)
    done(page)
    check_accessible(page)
    shown = [page.locator('#result').get_attribute('src')]
    page.locator('#slider').focus()
    for key, label in {'ArrowRight': '1', 'End': '9', 'ArrowLeft': '8'}.items():
        page.keyboard.press(key)
        expect(page.get_by_role('combobox')).to_have_value(label)
        shown.append(page.locator('#result').get_attribute('src'))
    assert len({*shown}) == 4
    name, image = saved(page, 'Save label 8')
    assert (name, image.size) == ('drawing.8.png', (16, 16))
    assert saved(page, 'Save all labels')[0] == 'drawing.grid.png'
    page.get_by_role('combobox').select_option('3')
    expect(page.locator('#slider')).to_have_value('3')
    page.get_by_role('button', name='Clear').click()
    expect(page.locator('#figure')).to_be_hidden()
    assert page.evaluate('pen.getImageData(0, 0, 280, 280).data.every((value, i) => i % 4 == 3 || value == 0)')


def test_finger_draws(open_page):
    """On a screen so low that the page would scroll where the drawing area does not claim the touch."""
    page = open_page('vae', WIDTHS['phone'] | {'viewport': {'width': 390, 'height': 500}})
    page.evaluate('scrollTo(0, 150)')
    box = page.locator('#canvas').bounding_box()
    session = page.context.new_cdp_session(page)
    for kind, y in (('touchStart', 20), ('touchMove', 80), ('touchMove', 120), ('touchMove', 180), ('touchEnd', None)):
        points = [] if y is None else [{'x': box['x'] + 100, 'y': box['y'] + y}]
        session.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': points})
    done(page)
    drawn = page.evaluate('pen.getImageData(0, 0, 280, 280).data.filter((value, i) => i % 4 == 0 && value > 0).length')
    assert drawn > 22 * 150
    assert page.evaluate('scrollY') == 150


def test_keys_pass_the_drop_box(open_page):
    page = open_page('unet')
    page.keyboard.press('Tab')
    assert focused(page) == 'drop'
    page.keyboard.press('Tab')
    assert focused(page) == 'clear'
    page.keyboard.press('Shift+Tab')
    assert focused(page) == 'drop'
    page.evaluate("""() => { onkeydown = event => { window.swallowed = event.defaultPrevented; }; }""")
    for key in ('F5', 'Control+r', 'Escape', 'a', 'ArrowDown'):
        page.keyboard.press(key)
        assert page.evaluate('swallowed') is False, key


@pytest.mark.parametrize('key', ['Enter', ' '])
def test_enter_and_space_open_the_file_dialog(open_page, key):
    page = open_page('unet', {'viewport': {'width': 390, 'height': 200}})
    page.locator('#drop').focus()
    before = page.evaluate('scrollY')
    with page.expect_file_chooser() as chooser:
        page.keyboard.press(key)
    assert page.evaluate('scrollY') == before
    chooser.value.set_files({'name': 'cat.png', 'mimeType': 'image/png', 'buffer': photo()})
    done(page)


def test_picture_is_pasted(open_page):
    page = open_page('unet')
    page.locator('#drop').focus()
    page.keyboard.press('Control+v')
    expect(page.get_by_role('status')).to_have_text('The clipboard holds no picture.')
    page.evaluate(
        """async bytes => navigator.clipboard.write([new ClipboardItem({
        'image/png': new Blob([new Uint8Array(bytes)], {type: 'image/png'})})])""",
        list(photo()),
    )
    page.keyboard.press('Control+v')
    done(page)
    expect(page.locator('#preview')).to_be_visible()


def test_file_is_dragged_onto_the_page(open_page, tmp_path):
    page = open_page('unet')
    (tmp_path / 'dragged.jpg').write_bytes(photo('JPEG'))
    session = page.context.new_cdp_session(page)
    data = {'items': [], 'files': [str(tmp_path / 'dragged.jpg')], 'dragOperationsMask': 1}
    for kind in ('dragEnter', 'dragOver', 'drop'):
        session.send('Input.dispatchDragEvent', {'type': kind, 'x': 200, 'y': 200, 'data': data})
    done(page)
    assert saved(page, 'Save the mask')[0] == 'dragged.mask.png'


def test_phone_offers_the_camera_beside_the_files(open_page):
    page = open_page('unet', WIDTHS['phone'])
    assert page.locator('#file').get_attribute('capture') is None
    with page.expect_file_chooser() as chooser:
        page.get_by_role('button', name='Take a photo').tap()
    assert chooser.value.element.get_attribute('capture') == 'environment'
    chooser.value.set_files({'name': 'image.jpg', 'mimeType': 'image/jpeg', 'buffer': photo('JPEG')})
    done(page)
    expect(open_page('unet').get_by_role('button', name='Take a photo')).to_be_hidden()


def test_classifier_shows_the_most_probable_labels_first(open_page):
    page = open_page('classifier')
    draw(page)
    done(page)
    shown = page.locator('#shares li')
    expect(shown).to_have_count(5)
    shares = [float(text.split()[-2]) for text in shown.all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    page.get_by_text('5 more').click()
    expect(page.locator('#more li').filter(visible=True)).to_have_count(5)
    check_accessible(page)


def test_error_is_shown_and_the_next_picture_works(open_page):
    page = open_page('unet')
    page.locator('#file').set_input_files({'name': 'no.png', 'mimeType': 'image/png', 'buffer': b'no picture'})
    expect(page.get_by_role('status')).to_contain_text('cannot be read')
    check_accessible(page)
    upload(page)


def test_report_scrolls_by_keyboard(browser, width, tmp_path):
    table = page_lib.table(('run', *range(60)), [(f'run {row}', *range(1000, 1060)) for row in range(3)])
    picture, images = page_lib.show(Picture('Curves', 'A caption.', np.full((300, 1000, 3), 255, np.uint8)), 'a', {})
    path = page_lib.write(tmp_path, 'report', ['# Runs', '## U-Net', '### All', *table, *picture], images)
    with browser.new_context(**width) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        check_accessible(page)
        region = page.get_by_role('region', name='U-Net: All')
        for _ in range(10):
            page.keyboard.press('Tab')
            if region.evaluate('element => element == document.activeElement'):
                break
        assert region.evaluate('element => getComputedStyle(element).outlineStyle') == 'solid'
        page.keyboard.press('ArrowRight')
        for _ in range(100):  # The page forbids the scripts that `wait_for_function` needs.
            if region.evaluate('element => element.scrollLeft') > 0:
                break
            page.wait_for_timeout(50)
        assert region.evaluate('element => element.scrollLeft') > 0
        assert page.get_by_role('group', name='Curves').get_attribute('tabindex') == '0'


def test_a_hundred_labels_can_be_chosen_by_name(open_page, width):
    page = open_page('vae', width, classes=[f'label {i}' for i in range(100)])
    page.locator('#slider').focus()
    page.keyboard.press('End')
    page.keyboard.press('ArrowLeft')
    expect(page.get_by_role('combobox').locator('option:checked')).to_have_text('label 98')
    assert page.locator('#slider').get_attribute('aria-valuetext') == 'label 98'
    page.get_by_role('combobox').select_option('label 41')
    expect(page.locator('#slider')).to_have_value('41')
    check_accessible(page)
