"""The address map. Each app answers for its own pages, by name; the JSON API has one root."""

from __future__ import annotations

from allauth.account import urls as account_urls
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.urls.converters import StringConverter
from django.views.generic import RedirectView

from console import account_views, views
from console.api import api
from console.live.parts import parts


def _superusers_only(request: HttpRequest) -> bool:
    """Django's own admin writes around our services, so no role opens it."""
    return request.user.is_active and request.user.is_superuser


admin.site.has_permission = _superusers_only  # type: ignore[method-assign]
admin.site.site_header = "Signalbox tables"
# One sign-in, one sign-out, one page for one's own password: for this door as well.
admin.site.login = account_views.admin_sign_in  # type: ignore[method-assign,assignment]
admin.site.logout = RedirectView.as_view(pattern_name="account_logout")  # type: ignore[method-assign,assignment]
admin.site.password_change = RedirectView.as_view(pattern_name="account_change_password")  # type: ignore[method-assign,assignment]


class _IdInAddress(StringConverter):
    """`<id:...>`: what no id can look like, such as NUL, leads nowhere before any view is asked."""

    regex = "[A-Za-z0-9_.-]+"


register_converter(_IdInAddress, "id")

_frame = (
    [
        path("system/", views.system, name="system"),
        path("search/", views.search, name="search"),
        path("frame/pending/", views.pending, name="pending"),
        path("frame/stuck/", views.stuck_count, name="stuck_count"),
        path("typed/", views.held, name="typed"),
        path("frame/notices/", views.notices, name="notices"),
        path("frame/parts/", parts, name="parts"),
    ],
    "console",
)

#: Of allauth only what has a page of ours. Nobody changes their own e-mail address here: it tells which accounts
#: belong to one person (approvals.people.persons).
_ACCOUNT_PAGES = {"account_logout", "account_inactive", "account_signup"}
_accounts = [
    path("login/", account_views.SignIn.as_view(), name="account_login"),
    path("reauthenticate/", login_required(account_views.SignInAgain.as_view()), name="account_reauthenticate"),
    path("password/", account_views.change_password, name="account_change_password"),
    *(page for page in account_urls.urlpatterns if getattr(page, "name", None) in _ACCOUNT_PAGES),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    path("", include(_frame)),
    path("", include("approvals.urls")),
    path("", include("orchestration.urls")),
    path("", include("dataplane.urls")),
    path("api/v1/", api.urls),
    path("accounts/", include(_accounts)),
    path("admin/", admin.site.urls),
]

handler400 = "console.views.bad_request"
handler403 = "console.views.forbidden"
handler404 = "console.views.not_found"
handler500 = "console.views.server_error"
