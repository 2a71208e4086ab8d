# tsm-run on a CPU: docker build -t tsm-tal . && docker run --rm tsm-tal --demo
FROM python:3.12.12-slim-bookworm

COPY . /opt/tsm-tal
RUN pip install --no-cache-dir --constraint /opt/tsm-tal/constraints.txt '/opt/tsm-tal[cpu]' \
    && rm -rf /opt/tsm-tal \
    && useradd --uid 10001 --create-home tsm

USER 10001
WORKDIR /home/tsm
HEALTHCHECK --interval=5m --timeout=1m CMD ["tsm-run", "--demo", "--quiet"]
ENTRYPOINT ["tsm-run"]
