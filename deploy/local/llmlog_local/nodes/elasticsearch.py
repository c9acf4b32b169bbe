"""Owns the process that is an Elasticsearch node: the JVM runs inside it.

Run as `python -m llmlog_local.nodes.elasticsearch` in a home that `llmlog_local.elasticsearch` has
laid out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlog_local.nodes.guard import guard, wait_for_signal

if TYPE_CHECKING:
    from collections.abc import Mapping


_WITHOUT_SAML = ("-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote")
"""The security module names classes of a library for SAML that no public repository has: it loads
without them where they are not looked for before they are used."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--heap", required=True)
    parser.add_argument("--setting", action="append", default=[])
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--state-file", type=Path)
    arguments = parser.parse_args()
    guard(arguments.state_file)

    settings = dict(setting.split("=", 1) for setting in arguments.setting)
    node = _start(arguments.heap, settings, secure=arguments.secure)
    wait_for_signal()
    node.close()
    sys.stdout.flush()
    os._exit(0)


def _start(heap: str, settings: Mapping[str, str], *, secure: bool) -> Any:
    from llmlog_local.nodes.jvm import start_jvm  # noqa: PLC0415 - the guard stands before anything slow

    home = settings["path.home"]
    # Elasticsearch's own choice of collector: its circuit breakers measure how full the heap is,
    # and G1 keeps garbage out of that. Both compilers: bulk is slower without the optimising one.
    options = ("-XX:+UseG1GC", f"-Des.path.home={home}", *(_WITHOUT_SAML if secure else ()))
    logging = f"-Dlog4j2.configurationFile={Path(home, 'config', 'log4j2.properties').as_uri()}"
    start_jvm(sorted(Path(home, "lib").iterdir()), heap, logging, *options)
    node = _build_node(settings)
    _serve_root(node, settings["node.name"])
    node.start()
    return node


def _build_node(values: Mapping[str, str]) -> Any:
    import jpype  # noqa: PLC0415 - as above

    text, java_class = jpype.JString, _java_class
    builder = java_class("common.settings.Settings").builder()
    for key, value in values.items():
        builder.put(text(key), text(value))
    settings = builder.build()

    java_class("common.logging.LogConfigurator").configureESLogging()
    name = dict(get=lambda: text(values["node.name"]))  # noqa: C408 - reads as the Java interface
    environment = java_class("node.InternalSettingsPreparer").prepareEnvironment(
        settings,
        jpype.JClass("java.util.HashMap")(),
        jpype.JClass("java.nio.file.Path").of(str(Path(values["path.home"], "config"))),
        jpype.JProxy("java.util.function.Supplier", name),
    )
    plugins = java_class("plugins.PluginsLoader")
    version = [int(part) for part in str(java_class("Build").current().version()).split(".")[:2]]
    more = (False,) if version >= [9, 3] else ()  # an argument that 9.3 added
    loader = plugins.createPluginsLoader(
        plugins.loadModulesBundles(environment.modulesDir(), *more),
        plugins.loadPluginsBundles(environment.pluginsDir(), *more),
        jpype.JClass("java.util.HashMap")(),
        False,  # noqa: FBT003 - Java has no keywords
    )
    return java_class("node.Node")(environment, loader)


def _serve_root(node: Any, name: str) -> None:
    """Serve `GET /`, which clients ask first: the module that does so is not published."""
    import jpype  # noqa: PLC0415 - as above

    text, java_class = jpype.JString, _java_class
    version = str(java_class("Build").current().version())
    cluster = node.injector().getInstance(java_class("cluster.service.ClusterService"))

    def answer(_request: Any, channel: Any, _client: Any) -> None:
        body = {
            "name": name,
            "cluster_name": str(cluster.getClusterName().value()),
            "cluster_uuid": str(cluster.state().metadata().clusterUUID()),
            "version": {"number": version, "build_flavor": "default"},
            "tagline": "You Know, for Search",
        }
        response, ok = java_class("rest.RestResponse"), java_class("rest.RestStatus").OK
        channel.sendResponse(response(ok, text("application/json"), text(json.dumps(body))))

    field = java_class("http.AbstractHttpServerTransport").class_.getDeclaredField("dispatcher")
    field.setAccessible(True)
    dispatcher = field.get(node.injector().getInstance(java_class("http.HttpServerTransport")))
    methods = java_class("rest.RestRequest$Method")
    for method in (methods.GET, methods.HEAD):
        handler = jpype.JProxy(java_class("rest.RestHandler"), {"handleRequest": answer})
        dispatcher.registerHandler(java_class("rest.RestHandler$Route")(method, text("/")), handler)


def _java_class(name: str) -> Any:
    import jpype  # noqa: PLC0415 - as above

    return jpype.JClass("org.elasticsearch." + name)


if __name__ == "__main__":
    main()
