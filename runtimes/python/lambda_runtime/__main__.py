"""Entry: ``python3 -I -X utf8 <path of this folder>``.

Run as a folder, Python puts the folder itself on ``sys.path``, where modules of ours
would shadow a function's own ``context.py`` or ``logs.py``. So the package is imported
from its parent, whole, and the path is taken away again before user code loads.
"""

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from lambda_runtime.runtime import run  # noqa: E402

del sys.path[0]
# User code's folder belongs to the agent's cache and may be shared.
sys.dont_write_bytecode = True

run()
