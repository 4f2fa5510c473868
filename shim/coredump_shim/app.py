"""The API server: which parts it is made of, stand-alone and in a cluster.

Not here: what any of them does, and how requests reach it (serving).
"""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from coredump_shim import (
    audit,
    authn,
    authz,
    corev1,
    discovery,
    downloads,
    hosts,
    objects,
    openapi,
    relay,
    status,
)
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog
from coredump_shim.cluster import Cluster
from coredump_shim.config import Config, Joined
from coredump_shim.deadline import Deadline
from coredump_shim.endpoints import Endpoints
from coredump_shim.frontca import Publisher
from coredump_shim.kept import Keeper
from coredump_shim.poduids import PodUids
from coredump_shim.reviews import Reviews
from coredump_shim.trust import Trust
from coredump_shim.watch import Watches

log = logging.getLogger(__name__)

TRUST = "coredump-trust"
"""Key of the joined application's Trust among its extensions; who is done with the application ends it."""


def create_app(config: Config, *, publishes: bool = False) -> Flask:
    """Return the application of a shim.

    In a cluster one process, which publishes, keeps HAProxy's CA of the front proxy up to date.
    Raises ConfigError for credentials that cannot be read.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider's
    status.register(app)
    if config.joined is None:
        _stand_alone(app, config)
    else:
        _join(app, config, config.joined, publishes=publishes)
    app.after_request(_logged)
    return app


def _stand_alone(app: Flask, config: Config) -> None:
    """Serve whoever reaches it, the store alone being asked."""
    catalog, deadline = _store(config)
    endpoints = Endpoints(catalog, Keeper(config.state), deadline)
    hosts.register(app, config)
    audit.register(app)
    app.register_blueprint(discovery.blueprint())
    app.register_blueprint(openapi.blueprint())
    app.register_blueprint(corev1.blueprint(endpoints))
    app.register_blueprint(objects.blueprint(endpoints, Watches(endpoints, config.max_watches)))
    app.register_blueprint(downloads.blueprint(catalog, endpoints.poduid_of, deadline))


def _join(app: Flask, config: Config, joined: Joined, *, publishes: bool) -> None:
    """Serve whom the cluster allows, its kube-apiserver having the objects."""
    cluster = Cluster(joined.kubeconfig)
    trust = Trust(cluster, Publisher(joined.run_dir).publish if publishes else None)
    reviews = Reviews(cluster)
    catalog, deadline = _store(config)
    bygones = Bygones(cluster)
    uids = PodUids(cluster, catalog, deadline, bygones)
    audit.register(app)
    authn.register(app, trust, reviews)
    authz.register(app, reviews)
    app.register_blueprint(discovery.blueprint(joined=True))
    app.register_blueprint(openapi.blueprint(joined=True))
    app.register_blueprint(relay.blueprint(cluster, uids, config.max_watches))
    app.register_blueprint(downloads.blueprint(catalog, uids.of_endpoint, deadline, bygones=bygones))
    app.extensions[TRUST] = trust
    trust.start()


def _store(config: Config) -> tuple[Catalog, Deadline]:
    return Catalog(config.store), Deadline(config.store_seconds, config.max_reads)


def _logged(response: Response) -> Response:
    log.debug("%s %r %d", request.method, request.full_path.rstrip("?")[:1000], response.status_code)
    return response
