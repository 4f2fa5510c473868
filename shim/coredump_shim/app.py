"""The stand-alone API server: which parts it is made of.

Not here: what any of them does, and how requests reach it (serving).
"""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from coredump_shim import corev1, discovery, downloads, hosts, objects, openapi, status
from coredump_shim.catalog import Catalog
from coredump_shim.config import Config
from coredump_shim.deadline import Deadline
from coredump_shim.endpoints import Endpoints
from coredump_shim.kept import Keeper
from coredump_shim.watch import Watches

log = logging.getLogger(__name__)


def create_app(config: Config) -> Flask:
    """Return the application of a stand-alone shim."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider's
    catalog = Catalog(config.store)
    deadline = Deadline(config.store_seconds, config.max_reads)
    endpoints = Endpoints(catalog, Keeper(config.state), deadline)
    status.register(app)
    hosts.register(app, config)
    app.register_blueprint(discovery.blueprint())
    app.register_blueprint(openapi.blueprint())
    app.register_blueprint(corev1.blueprint(endpoints))
    app.register_blueprint(objects.blueprint(endpoints, Watches(endpoints, config.max_watches)))
    app.register_blueprint(downloads.blueprint(catalog, endpoints.poduid_of, deadline))
    app.after_request(_logged)
    return app


def _logged(response: Response) -> Response:
    log.debug("%s %r %d", request.method, request.full_path.rstrip("?")[:1000], response.status_code)
    return response
