"""Judges by a rule or enricher whose text comes with the configuration: {"script": text, "file": name, "config": settings}.

A script is a module as `sluice new --lang python` writes it. Its names are those of the file, so that what is wrong is said
with its place there. What it imports must have been imported here, when the engine was built: there are no files later.
"""

import builtins
import importlib
import json
import sys
import types
import warnings

import sluice
from componentize_py_types import Err
from wit_world.exports import enricher as _enricher, rule as _rule  # the SDK imports them, too late for the component
from wit_world.imports import host
from wit_world.imports.types import PluginError_Config

# whatever judges rows; no clock, no randomness, no files
MODULES = """abc array ast base64 binascii bisect calendar cmath collections colorsys contextlib copy csv dataclasses datetime
decimal difflib enum fractions functools graphlib hashlib heapq hmac html ipaddress itertools json keyword locale math numbers
operator re sluice statistics string stringprep struct textwrap types typing unicodedata urllib uuid zlib""".split()

sluice._INNER.add(__file__)

for _name in [*MODULES, "collections.abc", "html.entities", "html.parser", "urllib.parse"]:
    importlib.import_module(_name)


class _Log:
    """Standard output and error: whole lines go to the host's log."""

    encoding = "utf-8"

    def __init__(self, level):
        self.level, self.line = level, ""

    def write(self, text):
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            host.log(self.level, line)
        return len(text)

    def flush(self):
        pass


def _import(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name.partition(".")[0] not in MODULES and name != "__future__":
        raise ImportError(f"a script has no module `{name}`, but {', '.join(MODULES)}")
    return builtins.__import__(name, globals, locals, fromlist, level)


def _nothing(what):
    def refuse(*_, **__):
        raise OSError(f"a verdict depends on its row alone: there is no {what}")

    return refuse


_BUILTINS = {
    **vars(builtins),
    "__import__": _import,
    "input": _nothing("input"),
    "breakpoint": _nothing("debugger"),
}


class _Script:
    """The script of this instance; the component makes a new `Rule` or `Enricher` for each call."""

    file, plugin = "", None


def _configure(exported, config_json):
    # set here, since they are of the interpreter and not of its state when the engine was built
    sys.stdout, sys.stderr = _Log(host.Level.INFO), _Log(host.Level.WARN)
    warnings.showwarning = _warn
    given = json.loads(config_json)
    text, _Script.file = given.get("script"), given.get("file", "script.py")
    if not isinstance(text, str):
        raise Err(PluginError_Config("`script` is the text of a module"))
    try:
        _Script.plugin = _load(text, exported)
    except _Mistake as mistake:
        raise Err(PluginError_Config(f"{_Script.file}:1:1: {mistake}"))
    except SyntaxError as problem:
        place = f"{problem.lineno or 1}:{problem.offset or 1}"
        raise Err(PluginError_Config(f"{_Script.file}:{place}: {type(problem).__name__}: {problem.msg}"))
    except Exception as problem:
        raise Err(PluginError_Config(f"{_Script.file}:{_line(problem)}: {type(problem).__name__}: {problem}"))
    return _Script.plugin.configure(json.dumps(given.get("config", {})))


class _Mistake(Exception):
    pass


def _load(text, exported):
    module = types.ModuleType("script")
    module.__file__, module.__builtins__ = _Script.file, _BUILTINS
    sys.modules["script"] = module  # dataclasses and typing look it up there
    exec(compile(text, _Script.file, "exec", dont_inherit=True), vars(module))
    made, other = vars(module).get(exported), "Enricher" if exported == "Rule" else "Rule"
    what = {"Rule": "a rule", "Enricher": "an enricher"}[exported]
    if made is None and hasattr(module, other):
        raise _Mistake(f"a script for {what} assigns `{exported}`, and not `{other}`")
    if made is None:
        raise _Mistake(f"a script assigns its plugin: `{exported} = {exported.lower()}(…)`")
    if not hasattr(made, "configure"):
        raise _Mistake(f"what a script assigns to `{exported}` is made by {exported.lower()}(…)")
    return made()


def _line(problem):
    """The line of the script that raised it. Not by `traceback`, which looks for the source among files."""
    line, step = 1, problem.__traceback__
    while step:
        if step.tb_frame.f_code.co_filename == _Script.file:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _warn(message, category, filename, line, *_):
    host.log(host.Level.WARN, f"{filename}:{line}: {category.__name__}: {message}")


class Rule:
    def configure(self, config_json):
        return _configure("Rule", config_json)

    def check(self, b):
        return _Script.plugin.check(b)


class Enricher:
    def configure(self, config_json):
        return _configure("Enricher", config_json)

    def enrich(self, b):
        return _Script.plugin.enrich(b)


def _audit(event, _):
    # where there are no files, to open one is a trap; the compiler, which shows the line of a mistake, goes on without it
    if event == "open":
        raise OSError("a verdict depends on its row alone: there is no file")


sys.addaudithook(_audit)
# what a module imports within a function, too late: said, where the file system's trap would say nothing
sys.meta_path.clear()
sys.path_hooks.clear()
