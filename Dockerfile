# The discrete-ae command in a container.
#   docker build -t discrete-ae .
#   docker run --rm -v "$PWD:/work" discrete-ae encode speech.wav -o codes -c model
# PyTorch is taken from the base image where it is there, otherwise installed: 5 GB on Linux, since it brings CUDA.
# A GPU, with a compiler for compile=true:
#   docker build -t discrete-ae --build-arg BASE=pytorch/pytorch:2.11.0-cuda13.0-cudnn9-devel .
#   docker run --rm --gpus all --ipc=host -v "$PWD:/work" discrete-ae train trainer=gpu data.root=/work/audio
# A CPU alone: give the address of PyTorch's CPU builds (pytorch.org names it) as --build-arg PIP_EXTRA_INDEX_URL=...
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG PIP_EXTRA_INDEX_URL

# Opus and Codec 2, to compare with.
RUN apt-get update && apt-get install --yes --no-install-recommends opus-tools codec2 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/discrete-ae
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY data data
COPY discrete_ae discrete_ae
RUN python3 -m pip install --no-cache-dir .

WORKDIR /work
ENTRYPOINT ["discrete-ae"]
CMD ["--help"]
