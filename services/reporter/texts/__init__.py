"""The words of reports and notices, by language: a table each, in `en.py` and `bg.py`."""

from __future__ import annotations

from services.reporter.texts.bg import BG
from services.reporter.texts.en import EN
from services.reporter.texts.words import Explained, Plural, Texts

LANGUAGES = {"en": EN, "bg": BG}


def texts(*wished: str) -> Texts:
    """The words of the first language of those wished that there is; English where there is none."""
    return next((LANGUAGES[language] for language in wished if language in LANGUAGES), EN)


__all__ = ["LANGUAGES", "Explained", "Plural", "Texts", "texts"]
