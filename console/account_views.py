"""Signing in, signing in again, and one's own password. There is no other door: `/admin/` leads here too."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.views import LoginView, ReauthenticateView
from django import forms
from django.contrib import messages
from django.contrib.auth import password_validation, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from console.accounts import STOPPED, signed_in_again
from console.http import person, sentence


def _stopped(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Say by the status that there were too many tries, and when the next may be made."""
    if STOPPED in request.__dict__:
        response.status_code = 429
        response["Retry-After"] = str(request.__dict__[STOPPED])
    return response


class SignIn(LoginView):  # type: ignore[misc]  # allauth ships no types
    """The one sign-in."""

    def form_invalid(self, form: Any) -> HttpResponse:
        return _stopped(self.request, super().form_invalid(form))


class SignInAgain(ReauthenticateView):  # type: ignore[misc]  # allauth ships no types
    """The password once more, before what needs a recent one."""

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            signed_in_again(self.request, person(self.request))
            response: HttpResponse = super().form_valid(form)
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        return _stopped(self.request, super().form_invalid(form))


class PasswordForm(forms.Form):
    """The password that is, and twice the one that will be."""

    current = forms.CharField(strip=False, max_length=1024)
    new = forms.CharField(strip=False, max_length=1024)
    again = forms.CharField(strip=False, max_length=1024)

    def __init__(self, data: Any, *, user: User) -> None:
        super().__init__(data)
        self.user = user

    @method_decorator(sensitive_variables())
    def clean(self) -> dict[str, Any]:
        """Look at the new one before the current one: a slip there costs no try."""
        given = self.cleaned_data
        if not self.errors:
            new = given["new"]
            if new == given["current"]:
                self.add_error("new", "This is the password that you have. Choose another one.")
            elif new != given["again"]:
                self.add_error("again", "The two new passwords differ. Type the same one twice.")
            else:
                try:
                    password_validation.validate_password(new, self.user)
                except ValidationError as exc:
                    self.add_error("new", exc)
        if not self.errors and not get_adapter().reauthenticate(self.user, given["current"]):
            self.add_error("current", "This is not your current password.")
        return given


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def change_password(request: HttpRequest) -> HttpResponse:
    """Change one's own password. Every other session of the account ends; the database records it."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    user = person(request)
    if not user.has_usable_password():
        return sentence(
            request,
            403,
            title="Your account has no password",
            detail="It cannot sign in with one, so there is none to change.",
            next_step="An admin can give it one.",
            home=False,
        )
    form = PasswordForm(request.POST if request.method == "POST" else None, user=user)
    if form.is_valid():
        with transaction.atomic():
            user.set_password(form.cleaned_data["new"])
            user.save(update_fields=["password"])
            update_session_auth_hash(request, user)
        messages.success(request, "Your password is changed. You are signed out everywhere but here.")
        return redirect("account_change_password")
    status = 422 if request.method == "POST" else 200
    return _stopped(request, render(request, "account/password_change.html", {"form": form}, status=status))


@require_http_methods(["GET", "HEAD", "POST"])
def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """Lead from the door of Django's admin to the one sign-in; say to whom it opens when somebody else is there."""
    if request.user.is_authenticated:
        return sentence(
            request,
            403,
            title="This is for superusers",
            detail="Django's own admin writes the tables themselves, so no role opens it.",
            next_step="Sign in with an account that manage.py createsuperuser has made.",
            other_account=True,
        )
    return redirect_to_login(request.GET.get("next") or "/admin/")
