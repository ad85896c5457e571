# One image for all roles: docker run horo serve ingress|expander|sender|reporter|console. Why it is as it is: docs/design/0019-image.md.
#
#   docker build -t horo .
#   docker build --target sbom --output . .      # sbom.json, the bill of materials (CycloneDX); it is in the image too
#
# Nothing is fetched but packages of PyPI, each held to its hash: those of uv.lock for the image, those of deploy/image/build.txt to make it.
# The base must be Debian's with Python 3.11 to 3.13 and its venv module; BASE=python@sha256:... holds it to the byte.
ARG BASE=python:3.11.15-slim-bookworm

FROM ${BASE} AS build
COPY deploy/image/build.txt /build/
RUN python3 -m venv /build/venv \
 && /build/venv/bin/pip install --no-cache-dir --disable-pip-version-check --quiet --require-hashes --only-binary :all: -r /build/build.txt
ENV PATH=/build/venv/bin:$PATH UV_NO_CACHE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1

# What the lock says of the image, by itself: packages that only tests need may change in it, and the next stage is not made again.
FROM build AS lock
WORKDIR /lock
COPY pyproject.toml uv.lock ./
RUN uv export --quiet --frozen --no-dev --all-extras --no-emit-project --no-annotate --no-header -o requirements.txt \
 && uv export --quiet --frozen --no-dev --all-extras --no-emit-project --format cyclonedx1.5 -o lock.cdx.json

# Wheels alone: nothing is compiled, and no package's own program runs. Bytecode is made now, for the root file system will be read-only.
FROM build AS packages
COPY --from=lock /lock/requirements.txt /build/
RUN python3 -m venv --without-pip /opt/horo \
 && uv pip install --quiet --python /opt/horo/bin/python --require-hashes --no-build --no-deps -r /build/requirements.txt \
 && /opt/horo/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/horo/lib \
 && echo /app > "$(echo /opt/horo/lib/python3*/site-packages)/horo.pth"

FROM packages AS project
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY cli cli
COPY services services
COPY shared shared
RUN hatchling build -t wheel -d /wheel \
 && uv pip install --quiet --offline --python /opt/horo/bin/python --no-deps --target /app /wheel/*.whl \
 && rm -f /app/.lock \
 && /opt/horo/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /app

# The base without pip, and with nothing in it that makes another user of who runs it; with the user.
FROM ${BASE} AS ground
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* /usr/local/bin/idle* \
    /usr/lib/python3*/ensurepip /usr/share/python-wheels \
 && groupadd --gid 10001 horo \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin horo \
 && install -d -o 10001 -g 10001 -m 0750 /data \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} +

# The base's packages are the same here as in the image.
FROM packages AS bill
COPY --from=lock /lock/lock.cdx.json /lock/
COPY deploy/image/sbom.py /lock/
ARG VERSION=0.1.0
RUN python /lock/sbom.py /lock/lock.cdx.json /opt/horo/lib/python3*/site-packages "$VERSION" > /lock/sbom.json

FROM scratch AS sbom
COPY --from=bill /lock/sbom.json /sbom.json

FROM ground AS image
COPY --from=packages /opt/horo /opt/horo
COPY --from=bill /lock/sbom.json /usr/share/doc/horo/sbom.json
COPY LICENSE /usr/share/doc/horo/LICENSE
COPY deploy/image/live.py /usr/share/horo/live.py
COPY --from=project /app /app

# A container's ports are its own: it listens on all addresses, and who may reach them is decided where it is run.
ENV PATH=/app/bin:/opt/horo/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HORO_DATA=/data \
    HORO_SMTP_LISTEN=0.0.0.0:2525 HORO_LMTP_LISTEN=0.0.0.0:2424 HORO_CONSOLE_LISTEN=0.0.0.0:8080 HORO_HEALTH_LISTEN=0.0.0.0:9090
WORKDIR /app
# By number: Kubernetes' runAsNonRoot cannot see that a name is not root's.
USER 10001:10001
# Mail that was accepted and not yet delivered (embedded profile): never in the container's own layer.
VOLUME ["/data"]
EXPOSE 2525 2424 8080 9090
# -I and -S: neither the environment's nor the packages' code runs.
HEALTHCHECK --interval=30s --timeout=7s --start-period=60s --retries=3 CMD ["python3", "-I", "-S", "/usr/share/horo/live.py"]
ENTRYPOINT ["horo"]
CMD ["--help"]

# Last, so that a new number makes no layer again.
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="Horo" \
      org.opencontainers.image.description="A mail-group engine: write to one address, every member gets it, and you can see that they did" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
