#!/usr/bin/env bash
# Writes a CycloneDX 1.6 SBOM of a Go binary, from what the linker recorded in it:
#   sbom.sh dist/varan-linux-amd64 > dist/varan-linux-amd64.cdx.json
set -euo pipefail
go version -m -json "$1" | jq '{
  bomFormat: "CycloneDX",
  specVersion: "1.6",
  version: 1,
  metadata: {component: {
    type: "application",
    "bom-ref": .Main.Path,
    name: .Main.Path,
    version: (.Main.Version // "devel"),
    properties: ([{name: "go:version", value: .GoVersion}] + [.Settings[]? | {name: ("go:build:" + .Key), value: .Value}])
  }},
  components: [.Deps[]? | (.Replace // .) | {
    type: "library",
    "bom-ref": ("pkg:golang/" + .Path + "@" + .Version),
    name: .Path,
    version: .Version,
    purl: ("pkg:golang/" + .Path + "@" + .Version)
  }]
}'
