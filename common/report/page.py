"""A page of text, tables and pictures: written as Markdown, and turned from that into one HTML file."""

import base64
from collections.abc import Container
import pathlib
import re
import string

import markdown
import numpy as np

from common.task import Picture
from common.writers import save_images

TEMPLATE = pathlib.Path(__file__).with_name('page.html')
HEADING_OR_TABLE = re.compile(r'<h([23])[^>]*>(.*?)</h[23]>|<table>(.*?)</table>', re.DOTALL)
FIGURE = re.compile(r'<p><img alt="(.*?)" src="(.*?)" />\n<em>(.*?)</em></p>', re.DOTALL)


def write(folder: pathlib.Path, name: str, lines: list[str], images: dict[str, np.ndarray]) -> pathlib.Path:
    """Writes figures/*.png, NAME.md, which shows them, and NAME.html, which holds them; returns the last."""
    save_images(folder, images)
    text = '\n'.join(lines) + '\n'
    (folder / f'{name}.md').write_text(text, encoding='utf-8')
    path = folder / f'{name}.html'
    path.write_text(to_html(text, folder), encoding='utf-8')
    return path


def to_html(text: str, folder: pathlib.Path) -> str:
    """Markdown, its first line the title, as a page that needs no other file.

    Args:
        folder: where the pictures are, to be read and held by the page.
    """
    converter = markdown.Markdown(extensions=['tables', 'toc'], extension_configs={'toc': {'toc_depth': '2-3'}})
    title, _, rest = text.partition('\n')
    body = converter.convert(rest)
    body = scrollable_tables(body)
    body = FIGURE.sub(lambda match: embedded(match[1], match[2], match[3], folder), body)
    return string.Template(TEMPLATE.read_text(encoding='utf-8')).substitute(
        title=title.removeprefix('# '), contents=converter.toc, body=body
    )


def scrollable_tables(body: str) -> str:
    """Puts each table of an HTML text into a region that the keyboard scrolls, named after its headings."""
    headings: dict[str, str] = {}

    def replaced(match: re.Match) -> str:
        level, heading, table = match.groups()
        if table is None:
            headings.update({'2': heading, '3': ''} if level == '2' else {'3': heading})
            return match[0]
        return scrollable('region', ': '.join(filter(None, headings.values())), f'<table>{table}</table>')

    return HEADING_OR_TABLE.sub(replaced, body)


def scrollable(role: str, label: str, content: str) -> str:
    """HTML in a box that scrolls sideways where the page is narrow, by keyboard too."""
    label = label.replace('"', '&quot;')
    return f'<div class="wide" role="{role}" aria-label="{label}" tabindex="0">{content}</div>'


def embedded(alt: str, source: str, caption: str, folder: pathlib.Path) -> str:
    """A figure with its picture inside."""
    data = base64.b64encode((folder / source).read_bytes()).decode()
    image = scrollable('group', alt, f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    return f'<figure>{image}<figcaption>{caption}</figcaption></figure>'


def show(picture: Picture, prefix: str, taken: Container[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The lines that show a picture, and the picture by its file's name: it begins with `prefix`, none is `taken`."""
    name = slug(f'{prefix} {picture.title}')
    while name in taken:
        name += '_'
    lines = ['', f'![{escape(picture.title)}](figures/{name}.png)', f'*{escape(picture.caption)}*']
    return lines, {name: picture.image}


def table(header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    """A Markdown table with a blank line before and after; columns of numbers stand to the right."""
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    rules = [
        '---:' if all(re.match(r'[-+–\d]', cell) for cell in column) else '---'
        for column in zip(*cells[1:], strict=True)
    ] or ['---'] * len(header)
    return ['', *(f'| {" | ".join(row)} |' for row in (cells[0], rules, *cells[1:])), '']


def spread(values: np.ndarray, digits: int = 4) -> str:
    """The mean, with the standard deviation where there are several; a dash for none."""
    if not len(values):
        return '–'
    mean = f'{np.mean(values):.{digits}f}'
    return mean if len(values) == 1 else f'{mean} ± {np.std(values, ddof=1):.{digits}f}'


def escape(text: object) -> str:
    """Text as Markdown and HTML show it letter for letter: names of folders may hold anything."""
    marks = r'[&<>|*`\\\[\]]|(?<![^\W_])_|_(?![^\W_])'  # An underscore inside a word is no mark.
    return re.sub(marks, lambda match: f'&#{ord(match[0])};', ' '.join(str(text).split()))


def slug(text: str) -> str:
    """A file name without surprises."""
    return re.sub(r'[^a-z0-9.]+', '_', text.lower()).strip('_.')
