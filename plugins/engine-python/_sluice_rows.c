// The rows of a call: one object, whose fields are set from the columns at each step.
//
// An accelerator of the SDK, which does the same without it, at twice the price. It makes texts, bytes, numbers and booleans;
// values of other types come from an iterator of the SDK's. It names the few functions of CPython's stable interface that it
// calls, so that it needs no header, and knows no layout of any object but the head that its own begins with.

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ Py_ssize_t;
typedef struct Type Type;
typedef struct { Py_ssize_t references; Type *type; } Object;  // a build with 32-bit pointers and a global lock
typedef struct { int slot; void *function; } Slot;
typedef struct { const char *name; int size, item_size; unsigned flags; Slot *slots; } Spec;
typedef struct { const char *name; Object *(*function)(Object *, Object *); int flags; const char *doc; } Method;
typedef struct {
  struct { Object base; Object *(*init)(void); Py_ssize_t index; Object *copy; } base;
  const char *name, *doc;
  Py_ssize_t size;
  Method *methods;
  void *slots, *traverse, *clear, *free;
} Module;

extern Object _Py_NoneStruct, *PyExc_ValueError, *PyExc_RuntimeError;
Object *PyModule_Create2(Module *, int);
Object *PyType_FromSpec(Spec *);
Object *PyType_GenericAlloc(Type *, Py_ssize_t);
void PyObject_Free(void *);
void Py_IncRef(Object *);
void Py_DecRef(Object *);
int PyArg_ParseTuple(Object *, const char *, ...);
int PyBytes_AsStringAndSize(Object *, char **, Py_ssize_t *);
Object *PyLong_FromLongLong(long long);
Object *PyFloat_FromDouble(double);
Object *PyBool_FromLong(long);
Object *PyObject_GetIter(Object *);
Object *PyIter_Next(Object *);
Object *PyErr_Occurred(void);
Py_ssize_t PyTuple_Size(Object *);
Object *PyTuple_GetItem(Object *, Py_ssize_t);
void *PyMem_Calloc(size_t, size_t);
void PyMem_Free(void *);
Object *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
Object *PyUnicode_FromStringAndSize(const char *, Py_ssize_t);
Object *PyLong_FromSsize_t(Py_ssize_t);
void PyErr_SetString(Object *, const char *);

enum { DEALLOC = 52, ITER = 62, ITERNEXT = 63, METHODS = 64 };
enum { VARARGS = 1, NOARGS = 4 };

// In the order in which the SDK numbers them.
typedef enum { TEXT, BYTES, INT, FLOAT, BOOL, OTHER } Kind;

// A text of this call that was made before, and where its bytes are.
typedef struct { const char *at; Py_ssize_t size; unsigned tail; Object *made; } Known;

enum { WORD = 4, KNOWN_BITS = 6, KNOWN = 1 << KNOWN_BITS, LONGEST = 32, TRIES = 128 };

typedef struct {
  Kind kind;
  int tries;                      // texts that may still be new, until they are no longer looked up
  Known *known;                   // KNOWN of them, or NULL
  size_t at;                      // where the field is in the row's object
  Object *source;                 // the column's tuple, which holds the buffers; or the iterator over other values
  const char *data;
  const int *offsets;
  const unsigned char *validity;  // NULL: none is null
} Column;

typedef struct {
  Object head;
  Object *row;
  Py_ssize_t next, rows, width;
  Column *columns;
} Rows;

static Type *rows_type;

static int bit(const unsigned char *bits, Py_ssize_t row) { return bits[row >> 3] >> (row & 7) & 1; }

static unsigned word(const char *at) {
  unsigned read;
  __builtin_memcpy(&read, at, sizeof read);
  return read;
}

// The last word; of less than one, all bytes.
static unsigned tail(const unsigned char *at, Py_ssize_t size) {
  if (size >= WORD) return word((const char *)at + size - WORD);
  return at[0] | at[size / 2] << 8 | at[size - 1] << 16;
}

// Many columns of text have few values: one that was made before is found.
static Object *text(Column *column, const char *at, Py_ssize_t size) {
  if (!column->tries || size < 1 || size > LONGEST) return PyUnicode_FromStringAndSize(at, size);
  const unsigned end = tail((const unsigned char *)at, size), mixer = 0x9e3779b1;
  unsigned hash = (end ^ size) * mixer;
  for (Py_ssize_t i = 0; i + WORD < size; i += WORD) hash = (hash ^ word(at + i)) * mixer;
  Known *known = &column->known[hash >> (32 - KNOWN_BITS)];
  int same = known->size == size && known->tail == end;
  for (Py_ssize_t i = 0; same && i + WORD < size; i += WORD) same = word(known->at + i) == word(at + i);
  if (same) {
    column->tries += column->tries < TRIES;
  } else {
    Object *made = PyUnicode_FromStringAndSize(at, size);
    if (!made) return 0;
    Py_DecRef(known->made);  // NULL at first
    *known = (Known){at, size, end, made};
    column->tries--;
  }
  Py_IncRef(known->made);
  return known->made;
}

static Object *value(Column *column, Py_ssize_t row) {
  if (column->validity && !bit(column->validity, row)) {
    Py_IncRef(&_Py_NoneStruct);
    return &_Py_NoneStruct;
  }
  const char *data = column->data;
  const int *offsets = column->offsets;
  switch (column->kind) {
    case TEXT: return text(column, data + offsets[row], offsets[row + 1] - offsets[row]);
    case BYTES: return PyBytes_FromStringAndSize(data + offsets[row], offsets[row + 1] - offsets[row]);
    case INT: return PyLong_FromLongLong(((const long long *)data)[row]);
    case FLOAT: return PyFloat_FromDouble(((const double *)data)[row]);
    case BOOL: return PyBool_FromLong(bit((const unsigned char *)data, row));
    case OTHER: break;
  }
  Object *next = PyIter_Next(column->source);
  if (!next && !PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "a column has fewer values than the call has rows");
  return next;
}

static Object *next(Rows *self) {
  Py_ssize_t row = self->next;
  if (row >= self->rows) return 0;
  self->next = row + 1;
  for (Column *column = self->columns, *end = column + self->width; column < end; column++) {
    Object *made = value(column, row);
    if (!made) return 0;
    Object **field = (Object **)((char *)self->row + column->at), *before = *field;
    *field = made;
    Py_DecRef(before);  // NULL at first
  }
  Py_IncRef(self->row);
  return self->row;
}

static Object *left(Object *self, Object *none) {
  (void)none;
  return PyLong_FromSsize_t(((Rows *)self)->rows - ((Rows *)self)->next);
}

static Object *same(Object *self) {
  Py_IncRef(self);
  return self;
}

static void dealloc(Rows *self) {
  Object *type = (Object *)self->head.type;
  for (Column *column = self->columns, *end = column + self->width; column < end; column++) {
    for (int i = 0; column->known && i < KNOWN; i++) Py_DecRef(column->known[i].made);
    PyMem_Free(column->known);
    Py_DecRef(column->source);
  }
  PyMem_Free(self->columns);
  Py_DecRef(self->row);
  PyObject_Free(self);
  Py_DecRef(type);
}

static int begin(Column *to, Object *from, Py_ssize_t rows) {
  Object *data, *offsets, *validity;
  char *o, *d, *v;
  Py_ssize_t o_size, d_size, v_size, at;
  int kind;
  if (!PyArg_ParseTuple(from, "inOOO", &kind, &at, &data, &offsets, &validity)) return 0;
  to->kind = kind, to->at = at;
  if (kind == OTHER) return (to->source = PyObject_GetIter(data)) != 0;
  if (PyBytes_AsStringAndSize(data, &d, &d_size) || PyBytes_AsStringAndSize(offsets, &o, &o_size) ||
      PyBytes_AsStringAndSize(validity, &v, &v_size))
    return 0;
  Py_IncRef(to->source = from);
  to->data = d, to->offsets = (const int *)o, to->validity = v_size ? (const unsigned char *)v : 0;
  int fits = !v_size || v_size >= (rows + 7) / 8;
  if (kind == BOOL) {
    fits = fits && d_size >= (rows + 7) / 8;
  } else if (kind == INT || kind == FLOAT) {
    fits = fits && d_size / 8 >= rows;
  } else {
    fits = fits && o_size / 4 > rows && to->offsets[0] >= 0 && to->offsets[rows] <= d_size;
    for (Py_ssize_t row = 0; fits && row < rows; row++) fits = to->offsets[row] <= to->offsets[row + 1];
  }
  if (!fits) PyErr_SetString(PyExc_ValueError, "a column's buffers are shorter than the call has rows");
  if (fits && kind == TEXT && (to->known = PyMem_Calloc(KNOWN, sizeof(Known)))) to->tries = TRIES;
  return fits;
}

static Object *rows(Object *module, Object *arguments) {
  (void)module;
  Object *row, *columns;
  Py_ssize_t count;
  if (!PyArg_ParseTuple(arguments, "OOn", &row, &columns, &count)) return 0;
  Py_ssize_t width = PyTuple_Size(columns);
  if (width < 0) return 0;
  Rows *self = (Rows *)PyType_GenericAlloc(rows_type, 0);
  if (!self) return 0;
  Py_IncRef(self->row = row);
  self->rows = count;
  self->columns = PyMem_Calloc(width, sizeof(Column));
  for (; self->columns && self->width < width; self->width++)
    if (!begin(&self->columns[self->width], PyTuple_GetItem(columns, self->width), count)) break;
  if (self->width == width) return (Object *)self;
  self->width += self->columns != 0;  // what was begun is released too
  Py_DecRef((Object *)self);
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "no memory for the columns");
  return 0;
}

static Object *place(Object *module, Object *arguments) {
  (void)module;
  Object *row, *wanted;
  Py_ssize_t size;
  if (!PyArg_ParseTuple(arguments, "OOn", &row, &wanted, &size)) return 0;
  for (size_t at = sizeof(Object); at + sizeof(Object *) <= (size_t)size; at += sizeof(Object *))
    if (*(Object **)((char *)row + at) == wanted) return PyLong_FromSsize_t(at);
  PyErr_SetString(PyExc_ValueError, "the row's object does not hold its field");
  return 0;
}

static Method rows_methods[] = {{"__length_hint__", left, NOARGS, "How many are left."}, {0}};
static Slot slots[] = {{DEALLOC, dealloc}, {ITER, same}, {ITERNEXT, next}, {METHODS, rows_methods}, {0}};
static Spec spec = {"_sluice_rows.Rows", sizeof(Rows), 0, 0, slots};
static Method methods[] = {
    {"rows", rows, VARARGS, "rows(row, ((kind, place, data, offsets, validity), ...), count): the row, once for each row"},
    {"place", place, VARARGS, "place(row, value, size): where the row's object of that size holds the value"},
    {0}};
static Module module = {.base = {.base = {1, 0}}, .name = "_sluice_rows", .size = -1, .methods = methods};

__attribute__((visibility("default"))) Object *PyInit__sluice_rows(void) {
  rows_type = (Type *)PyType_FromSpec(&spec);
  return rows_type ? PyModule_Create2(&module, 1013) : 0;
}
