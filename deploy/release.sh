#!/bin/sh
# Puts a version of the project where people find it: the wheel and the source distribution on a package index, and the
# image for amd64 and arm64 on a registry. It needs nothing but credentials; docs/releasing.md says which.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
fail() { echo "release: $1" >&2; exit 1; }

[ -n "${UV_PUBLISH_TOKEN:-}" ] || fail "UV_PUBLISH_TOKEN is missing: a token of the package index"
[ -n "${IMAGE:-}" ] || fail "IMAGE is missing: the image's name with its registry, such as registry.example/headwater"
[ -z "$(git status --porcelain)" ] || fail "the tree has changes: commit them"
grep -q "^## \[$version\]" CHANGELOG.md || fail "CHANGELOG.md has no section [$version]"
[ "$(git describe --exact-match --tags 2>/dev/null)" = "v$version" ] || fail "the commit isn't tagged: git tag v$version"

make dist
make image IMAGE="$IMAGE" PUSH=1
uv=$(command -v uv || echo .tools/bin/uv)
"$uv" publish "dist/headwater-$version"*.whl "dist/headwater-$version.tar.gz"
echo "$version is published"
