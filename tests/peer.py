"""Another reader of the tables: PyPI deltalake answers SQL over them, so that no test trusts our own reading.

usage: peer.py SQL NAME=FOLDER...   prints a JSON list of rows
"""

import json
import sys

from deltalake import DeltaTable, QueryBuilder

query = QueryBuilder()
for argument in sys.argv[2:]:
    name, folder = argument.split("=", 1)
    query = query.register(name, DeltaTable(folder))
table = query.execute(sys.argv[1]).read_all()
columns = {name: table.column(name).to_pylist() for name in table.column_names}
rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
print(json.dumps(rows, default=str))
