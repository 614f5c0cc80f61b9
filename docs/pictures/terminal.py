#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A terminal's text with its colours as an SVG picture, for the docs.

    lethe --color always status | docs/pictures/terminal.py 'lethe status' >docs/pictures/status.svg

Reads lines with SGR colours (ESC [ ... m); other sequences are left out. Of a program that draws a picture anew
again and again (ESC [ H), the one that --frame names: a number from 0, -1 the last.
"""
import argparse
import re
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT, PAD, BAR = 8.43, 18, 16, 34      # of a character of 14 px, of a line; the margin; the title
COLOURS = {31: "#ff7b72", 32: "#56d364", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd", 90: "#8b949e"}
TEXT, DIM, BACK = "#d6dde6", "#77808c", "#0f141a"
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def runs(line, look):
    """[(text, look)]: what looks alike together. look: colour, bold, dim; carried over lines."""
    found, at = [], 0
    for m in SEQUENCE.finditer(line):
        if m.start() > at:
            found.append((line[at:m.start()], dict(look)))
        at = m.end()
        for code in (int(c or 0) for c in m[1].split(";") if m[2] == "m" and "?" not in m[1]):
            if code == 0:
                look.update(colour=None, bold=False, dim=False)
            elif code in (1, 2):
                look.update(bold=code == 1, dim=code == 2)
            elif code in COLOURS:
                look["colour"] = COLOURS[code]
    if line[at:]:
        found.append((line[at:], dict(look)))
    return found


def picture(lines, title):
    look = {"colour": None, "bold": False, "dim": False}
    rows = [runs(line.rstrip("\r\n"), look) for line in lines]
    while rows and not "".join(t for t, _ in rows[-1]).strip():
        rows.pop()
    columns = max([len("".join(t for t, _ in r).rstrip()) for r in rows] + [len(title) + 10])
    wide, high = columns * WIDTH + 2 * PAD, len(rows) * HEIGHT + BAR + 1.5 * PAD
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f">' % (
        wide, high, wide, high),
        '<rect width="100%%" height="100%%" rx="8" fill="%s"/>' % BACK]
    out += ['<circle cx="%d" cy="17" r="5" fill="%s"/>' % (18 + 17 * i, c)
            for i, c in enumerate(("#ff5f57", "#febc2e", "#28c840"))]
    out += ['<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">',
            '<text x="%.0f" y="22" fill="%s" text-anchor="middle">%s</text>' % (wide / 2, DIM, escape(title))]
    for number, row in enumerate(rows):
        x, y = PAD, BAR + PAD + number * HEIGHT
        for text, how in row:
            if text.strip():
                blank = len(text) - len(text.lstrip())
                shown = text.strip()
                out.append('<text x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs" fill="%s"%s>%s</text>' % (
                    x + blank * WIDTH, y, len(shown) * WIDTH, how["colour"] or (DIM if how["dim"] else TEXT),
                    ' font-weight="bold"' if how["bold"] else "", escape(shown)))
            x += len(text) * WIDTH
    return "\n".join(out + ["</g>", "</svg>"]) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("title")
    p.add_argument("--frame", type=int)
    args = p.parse_args()
    text = sys.stdin.buffer.read().decode(errors="replace")
    if args.frame is not None:
        text = re.split(r"\x1b\[H", text)[1:][args.frame].split("\x1b[?1049l")[0]
    sys.stdout.write(picture(text.replace("\r\n", "\n").split("\n"), args.title))


if __name__ == "__main__":
    main()
