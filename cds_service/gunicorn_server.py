"""gunicorn instead of granian: ``gunicorn -c python:cds_service.gunicorn_server``. Its configuration, from CDS_*.

Its worker for ASGI, so that slow callers hold no worker here either (web/front.py).
"""

from __future__ import annotations

import os
from tempfile import mkdtemp

from cds_service.serve import CONNECTIONS, SHARED_COUNTS, STOP_SECONDS
from cds_service.settings import load_settings
from cds_service.web.logs import LIBRARIES

_settings = load_settings()
if _settings.workers > 1:
    os.environ.setdefault(SHARED_COUNTS, mkdtemp(prefix="cds-service-metrics-"))

wsgi_app = "cds_service.app:worker_app()"
worker_class = "asgi"
asgi_lifespan = "off"
workers = _settings.workers
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
backlog = CONNECTIONS
worker_connections = CONNECTIONS
graceful_timeout = STOP_SECONDS
accesslog = None
logconfig_dict = LIBRARIES
