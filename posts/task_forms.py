from django import forms


class AddForm(forms.Form):
    x = forms.IntegerField(label="First number", initial=2)
    y = forms.IntegerField(label="Second number", initial=3)
    seconds = forms.FloatField(
        label="Seconds it takes (0 to 60)", initial=3, min_value=0, max_value=60
    )


class FailSometimesForm(forms.Form):
    value = forms.CharField(label="What to process", initial="a parcel", max_length=200)
    chance = forms.FloatField(
        label="Chance of failure (0 to 1)", initial=0.5, min_value=0, max_value=1
    )


class SampleForm(forms.Form):
    name = forms.CharField(label="Whom to greet", initial="world", max_length=200)
