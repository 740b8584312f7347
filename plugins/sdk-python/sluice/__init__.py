"""Write a Sluice rule or enricher as a plain function over one row.

    from sluice import code, col, rule

    LOGIN_EXPOSED = code("login-exposed", "a private visit carries a login")

    def consent(row, settings, found):
        if row.private and row.login is not None and row.login not in settings.get("allow", []):
            found(LOGIN_EXPOSED)

    Rule = rule("consent", "1.2.0", consent, codes=[LOGIN_EXPOSED],
                private=col("keep_private", bool), login=col("context.user.login", str))

The module that assigns `Rule` (or `Enricher`) is the plugin. A null is None, and never "". `row` is one object whose
fields change from row to row: keep its values, not the row. A verdict depends on the row and the settings alone; there is
no clock, no file and no network, and what a function raises costs the row it was given: a dead letter that says why.

A module is imported when the component is built, so whatever the plugin needs is imported at its top.
"""

import json as _json
from datetime import date, datetime, timedelta, timezone
from decimal import Context as _Context, Decimal
from io import BytesIO as _BytesIO, StringIO as _StringIO
from struct import pack as _pack

from componentize_py_types import Err as _Err
from wit_world.imports import types as _wit

try:
    import _sluice_rows as _rows
except ImportError:  # not there, or of another Python: the same without it, at twice the price
    _rows = None

__all__ = ["code", "col", "date", "datetime", "Decimal", "decimal", "enricher", "rule", "warn"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EXACT = _Context(prec=80)
_BITS = [tuple(bit for bit in range(8) if not byte >> bit & 1) for byte in range(256)]

_TYPES = {
    bool: _wit.LogicalType.BOOLEAN,
    int: _wit.LogicalType.INT64,
    float: _wit.LogicalType.FLOAT64,
    str: _wit.LogicalType.UTF8,
    bytes: _wit.LogicalType.BINARY,
    date: _wit.LogicalType.DATE32,
    datetime: _wit.LogicalType.TIMESTAMP_US,
    Decimal: _wit.LogicalType.DECIMAL,
    dict: _wit.LogicalType.JSON,
    list: _wit.LogicalType.JSON,
}


# What a plugin says about itself


class code:
    """A reason why a rule objects: the row goes to the error table.

    `reads` names the columns whose values are shown beside it; by default all that the rule reads.
    """

    severity = _wit.Severity.ERROR

    def __init__(self, code, help, reads=None):
        self.code, self.help, self.reads, self.index = code, help, reads, None


class warn(code):
    """A reason why a rule warns: the row goes on, and carries the finding."""

    severity = _wit.Severity.WARN


class col:
    """A column that a plugin reads: its path in the row, and its type.

    One of bool, int, float, str, bytes, date, datetime, Decimal; dict or list for a struct or list as parsed JSON. With
    `required=False` a schema may lack it: then it is None in every row.
    """

    def __init__(self, path, type, required=True):
        if type not in _TYPES:
            raise TypeError(f"{path}: {type!r} is not a type that a column is read as")
        self.path, self.type, self.required = path, type, required


class decimal:
    """The type of an added column of decimals: digits in all, digits behind the point."""

    def __init__(self, precision, scale):
        self.precision, self.scale = precision, scale


def rule(name, version, check, *, codes, settings=None, **reads):
    """The class to be exported as `Rule`. `check(row, settings, found)` judges one row, and calls `found(code)` or
    `found(code, "detail")`. Further arguments are the columns, as `name=col(path, type)`. `settings` makes something of the
    configuration, called with its keys; by default it is a dict."""
    from wit_world.exports.rule import Description  # only the world of a rule has it

    for index, one in enumerate(codes):
        one.index = index
    plugin = _Plugin(name, version, check, reads, settings)
    names = list(reads)
    infos = [
        _wit.CodeInfo(one.code, one.severity, one.help, [names.index(n) for n in (names if one.reads is None else one.reads)])
        for one in codes
    ]
    found = _Found()
    each = _compile(plugin.target, "check(row, settings, found)")

    class Rule:
        def configure(self, config_json):
            plugin.configure(config_json)
            return Description(name, version, plugin.requests(), infos, _wit.Instances.REUSED)

        def check(self, b):
            found.begin(b.rows)
            try:
                each(plugin.rows(b, found), plugin.row, plugin.settings, found, check)
            except Exception as problem:
                raise _failed(problem, found.row())
            return found.findings

    return Rule


def enricher(name, version, add, *, adds, many=False, settings=None, **reads):
    """The class to be exported as `Enricher`. `add(row, settings)` answers a dict of the added columns of one row (a
    missing one is null; None: all of them), or with `many=True` a list of such dicts, at least one. `adds` has a type for
    each column: as for `col`, or `decimal(precision, scale)`."""
    from wit_world.exports.enricher import ColumnInfo, Description, Enriched  # only the world of an enricher has them

    plugin = _Plugin(name, version, add, reads, settings)
    position = _Position()
    each = _compile(plugin.target, "answer(add(row, settings))", "add, answer")

    class Enricher:
        def configure(self, config_json):
            plugin.configure(config_json)
            produces = []
            for column, type in adds.items():
                digits = (type.precision, type.scale) if isinstance(type, decimal) else (0, 0)
                produces.append(ColumnInfo(column, _TYPES[Decimal if isinstance(type, decimal) else type], *digits))
            return Description(name, version, plugin.requests(), produces, many, _wit.Instances.REUSED)

        def enrich(self, b):
            position.begin(b.rows)
            answers = []
            try:
                each(plugin.rows(b, position), plugin.row, plugin.settings, add, answers.append)
                rows = None
                if many:
                    rows = [row for row, several in enumerate(answers) for _ in several]
                    answers = [one for several in answers for one in several]
                made = [_write([(one or {}).get(column) for one in answers], type) for column, type in adds.items()]
                for one in answers:
                    unknown = one and one.keys() - adds.keys()
                    if unknown:
                        raise KeyError(f"the answer has {', '.join(sorted(unknown))}, which `adds` does not name")
            except Exception as problem:
                raise _failed(problem, position.row())
            return Enriched(rows, made)

    return Enricher


# What happens in a call


class _Position:
    """Which row it is: asked for where something is found, since to count costs every row."""

    def begin(self, rows):
        self.count, self.ahead = rows, None

    def row(self):
        return 0 if self.ahead is None else max(self.count - 1 - self.ahead.__length_hint__(), 0)


class _Found(_Position):
    def begin(self, rows):
        super().begin(rows)
        self.findings = []

    def __call__(self, code, detail=None):
        if code.index is None:
            raise LookupError(f"`{code.code}` is not among the rule's codes")
        self.findings.append(_wit.Finding(self.row(), code.index, None, None if detail is None else str(detail)))


class _Plugin:
    """What does not change between calls."""

    def __init__(self, name, version, function, reads, settings):
        self.reads, self.make_settings, self.settings = reads, settings, None
        self.row = type("Row", (), {"__slots__": tuple(reads)})()
        if _rows and reads:
            self.target, self.places = "row", [_place(self.row, name) for name in reads]
        else:
            # a `for` over attributes sets a row's fields without running a line of Python for each of them
            self.target = "".join(f"row.{name}, " for name in reads) or "_, "

    def configure(self, config_json):
        try:
            config = _json.loads(config_json)
            self.settings = config if self.make_settings is None else self.make_settings(**config)
        except Exception as problem:
            raise _Err(_wit.PluginError_Config(f"{type(problem).__name__}: {problem}"))

    def requests(self):
        return [_wit.ColumnRequest(one.path, _TYPES[one.type], one.required) for one in self.reads.values()]

    def rows(self, batch, position):
        """An iterator over the rows, and the position knows the one whose steps it takes."""
        if not self.reads:
            position.ahead = iter(range(batch.rows))
            return zip(position.ahead)
        if _rows:
            reads = zip(batch.columns, self.reads.values(), self.places)
            columns = tuple(_buffers(column, one.type, batch.rows, place) for column, one, place in reads)
            position.ahead = _rows.rows(self.row, columns, batch.rows)
            return position.ahead
        columns = [_read(column, one.type, batch.rows) for column, one in zip(batch.columns, self.reads.values())]
        position.ahead = columns[0][1]
        return zip(*[values for values, _ in columns])


def _place(row, name):
    """Where the object has that field: found, and not known, since its layout is the interpreter's own."""
    mark = object()
    setattr(row, name, mark)
    place = _rows.place(row, mark, type(row).__basicsize__)
    delattr(row, name)
    return place


def _compile(target, call, arguments="found, check"):
    text = f"def each(rows, row, settings, {arguments}):\n    for {target} in rows:\n        {call}\n"
    scope = {}
    exec(text, scope)
    return scope["each"]


_INNER = {"<string>", _compile.__code__.co_filename}
_LIBRARY = _json.__file__.rsplit("/", 2)[0] + "/"


def _failed(problem, row):
    """The error with the line of the plugin that raised it. Not by `traceback`, which looks for the source among files."""
    where, step = "", problem.__traceback__
    while step:
        file = step.tb_frame.f_code.co_filename
        if file not in _INNER and not file.startswith(_LIBRARY):
            # a built plugin's is absolute, in a place that only the build knew
            where = f"{file.rsplit('/', 1)[-1] if file.startswith('/') else file}:{step.tb_lineno}: "
        step = step.tb_next
    return _Err(_wit.PluginError_Internal(f"{where}{type(problem).__name__}: {problem} (row {row} of the call)"))


# Columns, in Arrow's layout


# as _sluice_rows.c numbers them
_KINDS, _OTHER = {str: 0, bytes: 1, int: 2, float: 3, bool: 4}, 5


def _buffers(column, type, rows, place):
    """A column as `_rows` takes it: its buffers, or its values."""
    kind = _KINDS.get(type, _OTHER)
    if kind == _OTHER or isinstance(column, _wit.Column_Absent):
        return _OTHER, place, _read(column, type, rows)[0], None, None
    parts = column.value
    return kind, place, parts.data, parts.offsets if kind < 2 else b"", parts.validity


def _read(column, type, rows):
    """A column's values as Python's own, None where it is null; and the iterator that says how many are left."""
    values = _values(column, type, rows)
    if isinstance(values, list):
        values = iter(values)
        return values, values
    return values


def _values(column, type, rows):
    if isinstance(column, _wit.Column_Absent):
        return [None] * rows
    parts = column.value
    if type is Decimal:
        scale, parts = parts.scale, parts.values
        data = parts.data
        numbers = (int.from_bytes(data[at : at + 16], "little", signed=True) for at in range(0, rows * 16, 16))
        values = [Decimal(number).scaleb(-scale, _EXACT) for number in numbers]
    elif type in (str, bytes, dict, list):
        sizes = iter(_sizes(parts.offsets, rows))
        data = parts.data
        # what reads on from where it stopped makes neither slices nor numbers, as data[start:end] does
        if type is bytes:
            values = map(_BytesIO(data).read, sizes)
        elif data.isascii():
            values = map(_StringIO(data.decode("ascii")).read, sizes)
        else:
            values = map(bytes.decode, map(_BytesIO(data).read, sizes))
        if type in (dict, list):
            values = [_json.loads(value) if value else None for value in values]
        elif not parts.validity:
            return values, sizes
        else:
            values = list(values)
    elif type is bool:
        values = [byte >> bit & 1 == 1 for byte in parts.data for bit in range(8)][:rows]
    elif type is float:
        values = memoryview(parts.data).cast("d").tolist()
    elif type is date:
        days = memoryview(parts.data).cast("i")
        return _present(parts.validity, rows, lambda row: date.fromordinal(_EPOCH_DAY + days[row]))
    elif type is datetime:
        micros = memoryview(parts.data).cast("q")
        return _present(parts.validity, rows, lambda row: _EPOCH + timedelta(microseconds=micros[row]))
    else:
        values = memoryview(parts.data).cast("q").tolist()
    for at, byte in enumerate(parts.validity):
        if byte != 255:
            for bit in _BITS[byte]:
                if at * 8 + bit < rows:
                    values[at * 8 + bit] = None
    return values


def _sizes(offsets, rows):
    # all at once, as two long numbers: none of their words is less than the one that is taken from it
    ends, starts = (int.from_bytes(offsets[at : at + 4 * rows], "little") for at in (4, 0))
    return memoryview((ends - starts).to_bytes(4 * rows, "little")).cast("i").tolist()


def _present(validity, rows, value):
    # what stands in a null's place is unspecified, and need not be a date at all
    return [value(row) if not validity or validity[row >> 3] >> (row & 7) & 1 else None for row in range(rows)]


def _bits(flags):
    out = bytearray((len(flags) + 7) // 8)
    for at, flag in enumerate(flags):
        if flag:
            out[at >> 3] |= 1 << (at & 7)
    return bytes(out)


def _write(values, type):
    """A list of values, None for null, as a column."""
    validity = b"" if all(value is not None for value in values) else _bits([value is not None for value in values])
    if isinstance(type, decimal):
        data = b"".join(_unscaled(value, type).to_bytes(16, "little", signed=True) for value in values)
        return _wit.Column_Decimal(_wit.Decimals(type.precision, type.scale, _wit.Fixed(data, validity)))
    if type in (str, bytes, dict, list):
        if type is str:
            pieces = [b"" if value is None else _expect(value, str).encode() for value in values]
        elif type is bytes:
            pieces = [b"" if value is None else _expect(value, bytes) for value in values]
        else:
            pieces = [b"" if value is None else _json.dumps(value).encode() for value in values]
        ends, end = [0], 0
        for piece in pieces:
            end += len(piece)
            ends.append(end)
        parts = _wit.Varlen(b"".join(e.to_bytes(4, "little") for e in ends), b"".join(pieces), validity)
        case = {str: _wit.Column_Utf8, bytes: _wit.Column_Binary}.get(type, _wit.Column_Json)
        return case(parts)
    if type is bool:
        return _wit.Column_Boolean(_wit.Fixed(_bits([value is True for value in values]), validity))
    if type is float:
        data = b"".join(_pack("<d", 0.0 if value is None else value) for value in values)
        return _wit.Column_Float64(_wit.Fixed(data, validity))
    if type is date:
        data = b"".join((0 if v is None else v.toordinal() - _EPOCH_DAY).to_bytes(4, "little", signed=True) for v in values)
        return _wit.Column_Date32(_wit.Fixed(data, validity))
    if type is datetime:
        micro = timedelta(microseconds=1)
        numbers = [0 if value is None else (value - _EPOCH) // micro for value in values]
        case = _wit.Column_TimestampUs
    else:
        numbers = [0 if value is None else _expect(value, int) for value in values]
        case = _wit.Column_Int64
    return case(_wit.Fixed(b"".join(number.to_bytes(8, "little", signed=True) for number in numbers), validity))


def _expect(value, type):
    if not isinstance(value, type):
        raise TypeError(f"an added {type.__name__} is {value!r}")
    return value


def _unscaled(value, type):
    if value is None:
        return 0
    scaled = Decimal(value).scaleb(type.scale, _EXACT)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{value} has more than {type.scale} digits behind the point")
    return int(scaled)
