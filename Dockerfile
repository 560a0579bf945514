# The image of `executor="docker"`: what candidates and commands find in their container. Build it where this file is:
#
#   docker build -t epsilon-lab .
#
# The Python of the lab and of the image must be of one version, because a problem's functions travel from one to the
# other: --build-arg PYTHON=3.12 for another one. Nothing runs in it but what a lab starts, without network, as nobody,
# on a root directory that is read-only.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

COPY . /src
RUN pip install --no-cache-dir --root-user-action=ignore /src && rm -rf /src

USER nobody
WORKDIR /tmp
CMD ["python", "-c", "import epsilon_lab; print('epsilon_lab', epsilon_lab.__version__)"]
