from pages import release


def release_headers(get_response):
    """Every answer tells which code gave it, so that a load test can count by version."""

    def middleware(request):
        response = get_response(request)
        for name, value in release.headers().items():
            response[name] = value
        return response

    return middleware
