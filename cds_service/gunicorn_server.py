"""gunicorn instead of granian: ``gunicorn -c python:cds_service.gunicorn_server``. Its configuration, from CDS_*.

Its worker for ASGI, so that slow callers hold no worker here either (web/front.py).
"""

from __future__ import annotations

import os
from tempfile import mkdtemp

from cds_service.serve import CONNECTIONS, STOP_SECONDS, share_session_key
from cds_service.settings import SHARED_COUNTS, load_settings
from cds_service.web.logs import LIBRARIES

_settings = load_settings()
if _settings.workers > 1:
    os.environ.setdefault(SHARED_COUNTS, mkdtemp(prefix="cds-service-metrics-"))
share_session_key(_settings)

wsgi_app = "cds_service.app:worker_app()"
worker_class = "asgi"
asgi_lifespan = "off"
workers = _settings.workers
bind = _settings.local_url.removeprefix("http://")
backlog = CONNECTIONS
worker_connections = CONNECTIONS
graceful_timeout = STOP_SECONDS
accesslog = None
logconfig_dict = LIBRARIES
