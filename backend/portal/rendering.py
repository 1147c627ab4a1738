"""Pages from templates: language and appearance of whoever looks, what every page shows around its content, errors in plain words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from backend.api.routes.events import news_of, news_text
from backend.api.sessions import Caller, caller_of, web_state
from backend.domain.errors import NotSignedIn, PeerwattError

from .languages import LANGUAGES, Language, language, preferred
from .navigation import current, sections
from .wallet_texts import WALLET_TEXTS
from .words import error_words

LANGUAGE_COOKIE: Final = "peerwatt_language"
APPEARANCE_COOKIE: Final = "peerwatt_appearance"
APPEARANCES: Final = ("auto", "light", "dark")
_YEAR_SECONDS: Final = 365 * 86_400
# Pages show somebody's own data.
_HEADERS: Final = {"Cache-Control": "private, no-store", "Vary": "Cookie, Accept-Language"}


@dataclass(frozen=True)
class Look:
    """How somebody wants to see pages.

    Attributes:
        language: theirs.
        appearance: `auto`, `light` or `dark`.
    """

    language: Language
    appearance: str


def look_of(request: Request) -> Look:
    """From the address (`lang`, `appearance`), else what was chosen before, else the browser's wish."""
    chosen = request.query_params.get("lang") or request.cookies.get(LANGUAGE_COOKIE)
    code = preferred(chosen, request.headers.get("accept-language"))
    appearance = request.query_params.get("appearance") or request.cookies.get(APPEARANCE_COOKIE)
    return Look(language(code), appearance if appearance in APPEARANCES else "auto")


def page(
    request: Request,
    template: str,
    caller: Caller | None = None,
    status: int = HTTPStatus.OK,
    **values: Any,
) -> Response:
    """A page, or a part of one where only a part is asked for.

    Args:
        request: what is answered.
        template: under `templates/portal`, without its ending.
        caller: who asks; None where no community is named.
        status: of the answer.
        values: for the template.
    """
    look = look_of(request)
    state = web_state(request)
    html = environment(look.language.code).get_template(f"portal/{template}.html.j2")
    base = f"/{caller.site.name}" if caller else ""
    among = sections(caller) if caller else ()
    text = html.render(
        look=look,
        languages=LANGUAGES,
        appearances=APPEARANCES,
        caller=caller,
        site=caller.site if caller else None,
        several=len(state.sites) > 1,
        base=base,
        sections=among,
        current=current(among, request.url.path.removeprefix(base)),
        **values,
    )
    response = HTMLResponse(text, status, _HEADERS)
    _remember(request, response, secure=state.settings.secure)
    return response


def error_page(request: Request, status: int, error: PeerwattError) -> Response:
    """An error for people: what happened, and what to do about it."""
    state = web_state(request)
    name = request.url.path.split("/")[1]
    caller = caller_of(request, state.sites[name]) if name in state.sites else None
    return page(
        request,
        "error",
        caller,
        status,
        error=error,
        words=error_words(error, look_of(request).language),
        sign_in=isinstance(error, NotSignedIn) and caller is not None,
    )


def _remember(request: Request, response: Response, *, secure: bool) -> None:
    """Keeps what the address chose."""
    chosen = {
        LANGUAGE_COOKIE: (request.query_params.get("lang"), tuple(LANGUAGES)),
        APPEARANCE_COOKIE: (request.query_params.get("appearance"), APPEARANCES),
    }
    for cookie, (value, known) in chosen.items():
        if value in known:
            response.set_cookie(
                cookie,
                str(value),
                max_age=_YEAR_SECONDS,
                secure=secure,
                httponly=True,
                samesite="lax",
            )


@cache
def environment(code: str) -> Environment:
    """The templates in a language."""
    return make_environment(language(code))


def make_environment(lang: Language) -> Environment:
    """Templates with the texts and the number formats of a language."""
    made = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.install_gettext_translations(lang.texts, newstyle=True)  # type: ignore[attr-defined]
    made.filters |= {
        "kwh": lang.kwh,
        "kilowatts": lang.kilowatts,
        "money": lang.money,
        "price": lang.price,
        "percent": lang.percent,
        "number": lang.number,
        "day": lang.day,
        "clock": lang.clock,
        "moment": lang.moment,
        "data": as_data,
    }
    made.globals |= {
        "asset": asset,
        "script_texts": lambda: script_texts(lang),
        "news": lambda site: news_text(news_of(site)),
    }
    return made


def as_data(value: Any) -> Markup:
    """Data for a script, as JSON that cannot end the element it stands in, whatever the names."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@lru_cache(512)
def asset(name: str) -> str:
    """Address of a static file, with its digest, so that a changed one is fetched anew.

    Our own modules go without: they import each other by plain names, and a module under two addresses would be two modules.
    """
    if name.endswith(".js") and not name.startswith("vendor/"):
        return f"/static/{name}"
    content = (files("backend.portal") / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


def script_texts(lang: Language) -> Mapping[str, str]:
    """Texts that scripts show, by how they stand there."""
    return {message: lang.text(message) for message in WALLET_TEXTS}


def _template(name: str) -> str | None:
    source = files("backend.portal") / "templates" / name
    return source.read_text(encoding="utf-8") if source.is_file() else None
