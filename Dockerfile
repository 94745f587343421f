# The quickstart in a container: docker build -t cft-trl . && docker run --rm -it cft-trl
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home cft

USER cft
WORKDIR /home/cft/cft-trl
COPY --chown=cft . .

# The environment of `make quickstart`, pinned by constraints.txt, and the small model where the Hub does not answer.
RUN make .venv/.installed-quickstart .venv/.small-model && mkdir -p runs

ENV PATH=/home/cft/cft-trl/.venv/bin:$PATH
VOLUME /home/cft/cft-trl/runs
CMD ["make", "quickstart"]
