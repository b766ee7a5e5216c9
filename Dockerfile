# The gateway alone, for amd64, arm64 and armv7: docker buildx build --platform linux/amd64,linux/arm64,linux/arm/v7 .
# Nothing is compiled for the target: the dependencies are JavaScript, or come prebuilt for each platform.
# The newest line that there is for armv7, too.
ARG NODE=node:22.23.3-bookworm-slim

# TypeScript is the same on every platform, so it is built on the builder's own, not under emulation.
FROM --platform=$BUILDPLATFORM ${NODE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build

FROM ${NODE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force

FROM ${NODE}
ENV NODE_ENV=production
WORKDIR /app
# Nothing in the image can be changed by the gateway, but for its data.
RUN install -d -o node -g node /data
COPY package.json LICENSE ./
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY config config
COPY devices devices
RUN ln -s /app/dist/main.js /usr/local/bin/sluice && chmod +x dist/main.js
USER node
VOLUME /data
EXPOSE 1883 9092
# Within a container 127.0.0.1 is nobody else's; who gets in is decided by the ports that are published.
ENV SLUICE_DATA_DIR=/data \
    SLUICE_MQTT__LISTENERS='[{ type: tcp, bind: "0.0.0.0:1883" }]' \
    SLUICE_KAFKA__BIND=0.0.0.0:9092
# Healthy: both ports take connections. Without a client library, so that a check costs little on a Pi.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["node", "-e", "const net=require('node:net');for(const port of [1883,9092])net.connect(port,'127.0.0.1').on('connect',function(){this.end()}).on('error',()=>process.exit(1)).setTimeout(3000,()=>process.exit(1))"]
# Node as process 1 gets the signals itself; the gateway handles SIGTERM. One thread beside it: see src/heap.ts.
CMD ["node", "--v8-pool-size=1", "dist/main.js", "up", "--config", "config/gateway.yaml"]
