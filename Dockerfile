# syntax=docker/dockerfile:1

# The server's own major version: dumps need a pg_dump at least as new, test restores a server of exactly that version.
ARG PG_MAJOR=17

FROM node:24-bookworm-slim AS node

FROM node AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY src ./src
RUN npm run build

FROM node AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts
# The commit that this is built from, for lifeboat_build_info.
ARG REVISION=unknown
RUN npm pkg set "gitHead=${REVISION}"

FROM postgres:${PG_MAJOR}-bookworm
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Lifeboat" \
      org.opencontainers.image.description="A sidecar that keeps a PostgreSQL cluster recoverable, and proves it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"

# Everything that node links to is in this image already; running it here proves it.
COPY --from=node /usr/local/bin/node /usr/local/bin/node
RUN node --version

# What unpacks faster than what is there (docs/decisions/0037-unpacking.md), and what encrypts where that is configured.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends age libarchive-tools \
 && rm -rf /var/lib/apt/lists/*

# PostgreSQL refuses to run as root, and so do its scratch servers: they run as this user, who needs a name.
RUN groupadd --gid 10187 lifeboat \
 && useradd --uid 10187 --gid lifeboat --home-dir /var/lib/lifeboat --no-create-home --shell /usr/sbin/nologin lifeboat \
 && install --directory --owner=lifeboat --group=lifeboat --mode=0711 /var/lib/lifeboat \
 && install --directory --owner=lifeboat --group=lifeboat --mode=0700 /var/backups/lifeboat \
 && ln --symbolic /app/dist/lifeboat /usr/local/bin/lifeboat

WORKDIR /app
COPY LICENSE ./
COPY --from=dependencies /app/package.json ./
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /build/dist ./dist

# One heap of the C library for all threads: each would otherwise keep its own (docs/benchmarks.md).
ENV NODE_ENV=production \
    MALLOC_ARENA_MAX=1 \
    LIFEBOAT_CONFIG=/etc/lifeboat/lifeboat.yaml \
    LIFEBOAT_LISTEN=0.0.0.0:10187
USER lifeboat
VOLUME ["/var/lib/lifeboat", "/var/backups/lifeboat"]
EXPOSE 10187
# The base image stops with SIGINT.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.LIFEBOAT_LISTEN.split(':').at(-1)}/-/healthy`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "--max-semi-space-size=2", "--max-old-space-size=128", "--optimize-for-size", "/app/dist/main.js"]
CMD ["serve"]
