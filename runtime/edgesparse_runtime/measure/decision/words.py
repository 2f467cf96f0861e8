"""What the page of a decision says, in English and Japanese."""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.measure.report.words import Words

_WORDS: dict[str, tuple[str, str]] = {
    # Models.
    "dense": ("dense attention", "密な注意"),
    "sparse-90": ("10 % less attention", "注意計算 10 % 減"),
    "sparse-70": ("30 % less attention", "注意計算 30 % 減"),
    "sparse-30": ("70 % less attention", "注意計算 70 % 減"),
    "small": ("small model", "小型モデル"),
    "multirocket-hydra": ("MultiRocket-Hydra", "MultiRocket-Hydra"),
    "bundle": ("this model", "このモデル"),
    # The same within a sentence.
    "the dense": ("dense attention", "密な注意"),
    "the sparse-90": ("the model with 10 % less attention compute", "「注意計算 10 % 減」"),
    "the sparse-70": ("the model with 30 % less attention compute", "「注意計算 30 % 減」"),
    "the sparse-30": ("the model with 70 % less attention compute", "「注意計算 70 % 減」"),
    "the small": ("the small model", "小型モデル"),
    "the multirocket-hydra": ("MultiRocket-Hydra", "MultiRocket-Hydra"),
    "the bundle": ("this model", "このモデル"),
    "in int8": (" in int8", "（int8）"),
    # The verdict.
    "use_fastest": (
        "Use {name}: {ratio}x as fast as dense attention on this machine, and any loss of accuracy stays "
        "within {margin} points ({points}).",
        "{name}の採用を推奨します。この機械では密な注意の {ratio} 倍の速さで、精度の低下は {margin} "
        "ポイント以内です（{points}）。",
    ),
    "use_better": (
        "Use {name}: its accuracy is higher than that of {other} by {points}.",
        "{name}の採用を推奨します。精度が{other}を上回ります（{points}）。",
    ),
    "use_dense_fastest": (
        "Use dense attention: other models are as accurate, but none was shown to be faster here.",
        "密な注意の採用を推奨します。同等の精度のモデルはありますが、この機械でより速いと示せたものはありません。",
    ),
    "use_none_shown": (
        "Use dense attention for now: with {n} test series, no other model could be shown to stay within "
        "{margin} points of its accuracy.",
        "当面は密な注意を推奨します。テスト系列 {n} 件では、他のモデルの精度低下が {margin} ポイント以内だと"
        "示せません。",
    ),
    "use_all_worse": (
        "Use dense attention: every other model is less accurate.",
        "密な注意の採用を推奨します。他のモデルはすべて精度が下がります。",
    ),
    "use_bundle": (
        "This model answers within {deadline} ms on this machine: 99 of 100 calls took at most {p99} ms.",
        "このモデルはこの機械で {deadline} ms 以内に応答します（100 回中 99 回が {p99} ms 以下）。",
    ),
    "use_bundle_late": (
        "This model is too slow for {deadline} ms on this machine: 1 of 100 calls took {p99} ms or longer.",
        "このモデルはこの機械では {deadline} ms に間に合いません（100 回に 1 回は {p99} ms 以上）。",
    ),
    "use_bundle_few": (
        "This model answered within {deadline} ms on this machine in all of {calls} calls; the slowest took "
        "{max} ms.",
        "このモデルはこの機械で {calls} 回すべて {deadline} ms 以内に応答しました（最長 {max} ms）。",
    ),
    "use_bundle_late_few": (
        "This model is too slow for {deadline} ms on this machine: the slowest of {calls} calls took "
        "{max} ms.",
        "このモデルはこの機械では {deadline} ms に間に合いません（{calls} 回中の最長 {max} ms）。",
    ),
    "points": ("{value} points [{low}, {high}]", "{value} ポイント［{low}, {high}］"),
    "points_alone": ("{value} points, no interval", "{value} ポイント、区間なし"),
    "title_poc": ("Proof of concept: {name}", "概念実証：{name}"),
    "title_bundle": ("Model report: {name}", "モデル報告書：{name}"),
    "summary_poc": (
        "{training} series to train on, {test} to test on, {classes} classes. Measured on {cpu}.",
        "学習系列 {training} 件、テスト系列 {test} 件、{classes} クラス。測定機：{cpu}。",
    ),
    "summary_bundle": ("Measured on {cpu}.", "測定機：{cpu}。"),
    # For the decision.
    "manager": ("For the decision", "意思決定のために"),
    "sure": (
        "How sure: each model was trained {seeds} times and tested on the same {n} series. In 95 of 100 such "
        "trials, the interval in brackets contains the true difference from dense attention.",
        "確かさ：各モデルを {seeds} 回学習し、同じ {n} 件の系列で試験しました。同様の試行 100 回中 95 回で、"
        "角括弧の区間が密な注意との真の差を含みます。",
    ),
    "sure_once": (
        "How sure: each model was trained once and tested on the same {n} series. In 95 of 100 such trials, "
        "the interval in brackets contains the true difference between these trained models.",
        "確かさ：各モデルを 1 回学習し、同じ {n} 件の系列で試験しました。同様の試行 100 回中 95 回で、"
        "角括弧の区間がこれらの学習済みモデルの真の差を含みます。",
    ),
    "fragile": (
        "Beware of noise: with {noise} % noise on every channel, the accuracy of {name} changes by {points}; "
        "least affected is {steady} ({other}).",
        "雑音に注意：全チャネルに {noise} % の雑音を加えると、{name}の精度は {points} 変わります。"
        "影響が最も小さいのは{steady}です（{other}）。",
    ),
    "fragile_alone": (
        "Beware of noise: with {noise} % noise on every channel, the accuracy of {name} changes by {points}.",
        "雑音に注意：全チャネルに {noise} % の雑音を加えると、{name}の精度は {points} 変わります。",
    ),
    "one_seed": (
        "Other trainings: each model was trained once, and another training may come out differently.",
        "学習のばらつき：各モデルの学習は 1 回だけで、再学習すると結果が変わる可能性があります。",
    ),
    "accuracy_is": (
        "{name} decides {accuracy} of the test series correctly (95 % interval {low} to {high}).",
        "{name}の正解率は {accuracy}（95 % 区間 {low} ～ {high}）です。",
    ),
    "accuracy_alone": (
        "{name} decides {accuracy} of the test series correctly; no interval can be given.",
        "{name}の正解率は {accuracy} です。区間は求められません。",
    ),
    "accuracy_unknown": (
        "Accuracy was not measured here. Give labeled series with --data.",
        "精度は測定していません。--data でラベル付き系列を指定してください。",
    ),
    "streams_are": (
        "Within {deadline} ms, one machine like this one ({cores} cores) keeps up with {streams} streams "
        "that each send one window per {deadline} ms; with dense attention, {dense}.",
        "期限 {deadline} ms のとき、この機械（{cores} コア）1 台で、{deadline} ms ごとに 1 ウィンドウを送る"
        "ストリームを {streams} 本処理できます。密な注意では {dense} 本です。",
    ),
    "streams_bundle": (
        "Within {deadline} ms, one machine like this one ({cores} cores) keeps up with {streams} streams "
        "that each send one window per {deadline} ms.",
        "期限 {deadline} ms のとき、この機械（{cores} コア）1 台で、{deadline} ms ごとに 1 ウィンドウを送る"
        "ストリームを {streams} 本処理できます。",
    ),
    "default_deadline": (
        "The deadline is an assumption; state yours with --deadline.",
        "期限は仮定です。--deadline で指定してください。",
    ),
    "energy": ("Energy: not measured.", "エネルギー：未測定。"),
    "energy_counter": (
        "Energy: {use} J per 1,000 windows, read from the processor's own counter (RAPL), which also counts "
        "whatever else the processor did.",
        "エネルギー：1,000 ウィンドウあたり {use} J（プロセッサのカウンター RAPL による。"
        "同時に動いていた他の処理を含む）。",
    ),
    "energy_stated": (
        "Energy: {use} J per 1,000 windows if the machine draws {watts} W, as stated; not measured.",
        "エネルギー：指定された {watts} W を機械が消費するとして、1,000 ウィンドウあたり {use} J（未測定）。",
    ),
    "energy_base": ("Dense attention: {base} J.", "密な注意：{base} J。"),
    "no_bundle": (
        "It is not a model that EdgeSparse exports: it runs in Python with the package aeon.",
        "EdgeSparse が書き出すモデルではなく、パッケージ aeon を使い Python で動きます。",
    ),
    "not_shown": ("What these measurements do not show", "この測定では示せないこと"),
    "open": (
        "Whether these stay within {margin} points of dense attention: {names}.",
        "密な注意との差が {margin} ポイント以内かどうか：{names}。",
    ),
    "needs_more": (
        "If the differences stay as they are, about {needed} test series would show it of {name}.",
        "差がこのままなら、テスト系列が約 {needed} 件あれば{name}について示せます。",
    ),
    "needs_other": (
        "More test series alone will probably not show it.",
        "テスト系列を増やすだけでは示せない見込みです。",
    ),
    "no_groups": (
        "Other machines: the data name no machines, so the figures hold for machines like those recorded.",
        "他の機械：データに機械の区別がないため、数値は記録された機械と同様のものに限られます。",
    ),
    "with_groups": (
        "The test series come from {groups} machines, runs or people; the intervals count these.",
        "テスト系列は {groups} の機械・運転・人に由来し、区間はその数に基づきます。",
    ),
    "chosen": (
        "The choice among {models} models was made on the test series themselves: expect the chosen one to "
        "be slightly less accurate.",
        "{models} 個のモデルからの選択はテスト系列そのもので行いました。"
        "実際の精度は少し下がると見てください。",
    ),
    "in_both": (
        "{count} test series are also among the training series: the accuracies are too high.",
        "テスト系列のうち {count} 件は学習系列にもあり、精度は高めに出ています。",
    ),
    "dropped": ("Dropped for lack of time: {what}.", "時間の都合で省略：{what}。"),
    "left_out": ("Not measured: {what} ({reason}).", "未測定：{what}（{reason}）。"),
    "failed": ("Failed: {what} ({reason}).", "失敗：{what}（{reason}）。"),
    "one_machine": (
        "Speed on other machines: edgesparse profile BUNDLE --on ssh://USER@HOST measures it there.",
        "他の機械での速度：edgesparse profile BUNDLE --on ssh://USER@HOST で測定できます。",
    ),
    "return": ("Return on investment", "投資対効果"),
    "return_how": (
        "Enter your own figures; the initial ones are made up. Machines are as many as the streams need "
        "under the deadline.",
        "欄に実際の数値を入力してください。初期値は仮のものです。機械の台数は、期限内に全ストリームを処理"
        "するのに必要な数です。",
    ),
    "return_with": ("with", "条件"),
    "return_streams": ("streams to watch", "監視するストリーム数"),
    "return_price": ("price per machine", "機械 1 台の価格"),
    "return_work": ("one-time work", "初期作業の費用"),
    "return_machines": ("machines needed", "必要な台数"),
    "return_cost": ("cost of machines", "機械の費用"),
    "return_saved": (
        "saved compared with dense attention, less the one-time work",
        "密な注意に対する節約額（作業費を除く）",
    ),
    "return_none": ("not within the deadline", "期限内に処理不可"),
    # For the line.
    "line": ("For the line", "現場のために"),
    "late_none": (
        "None of {calls} calls took longer than {deadline} ms; the slowest took {max} ms.",
        "{calls} 回の呼び出しで {deadline} ms を超えたものはありません（最長 {max} ms）。",
    ),
    "late_some": (
        "99 of 100 calls took at most {p99} ms, within {deadline} ms; the slowest of {calls} took {max} ms, "
        "which is late.",
        "100 回中 99 回は {p99} ms 以下で {deadline} ms 以内ですが、"
        "{calls} 回中の最長は {max} ms で遅延です。",
    ),
    "late_many": (
        "More than 1 of 100 calls is late: the 99th percentile is {p99} ms, the deadline {deadline} ms.",
        "100 回に 1 回より多く遅延します（99 パーセンタイル {p99} ms、期限 {deadline} ms）。",
    ),
    "late_few": (
        "Of only {calls} calls, the slowest took {max} ms, which is later than {deadline} ms.",
        "わずか {calls} 回の呼び出しで最長 {max} ms となり、{deadline} ms を超えました。",
    ),
    "errors": ("Which class is taken for which", "どのクラスを取り違えるか"),
    "errors_how": (
        "{name}, test series over all trainings. A row per true class, a column per decision.",
        "{name}、全学習を通したテスト系列の数。行は真のクラス、列は判定。",
    ),
    "errors_top": (
        "The {shown} most frequent confusions of {name}, over all trainings.",
        "{name}で多い取り違え {shown} 件（全学習を通した数）。",
    ),
    "true": ("true class", "真のクラス"),
    "taken": ("taken for", "判定"),
    "count": ("times", "回数"),
    "no_errors": ("No test series was decided wrongly.", "誤判定はありません。"),
    "unknown": ("Windows of no known class", "未知のウィンドウ"),
    "unknown_how": (
        "{refused} of the good windows are called unknown (n = {n}). Of windows that no healthy sensor "
        "produces:",
        "正常なウィンドウの {refused} を未知と判定します（n = {n}）。"
        "正常なセンサーでは起きないウィンドウでは：",
    ),
    "unknown_kind": ("kind", "種類"),
    "unknown_share": ("called unknown", "未知と判定"),
    "unknown_not": (
        "This model cannot tell windows of no known class: it names one of its classes for every window. The "
        "small model can tell.",
        "このモデルは未知のウィンドウを見分けられず、必ずいずれかのクラスを返します。"
        "小型モデルは見分けられます。",
    ),
    "noise_is": (
        "With {noise} % noise on every channel, accuracy changes by {points}.",
        "全チャネルに {noise} % の雑音を加えると、精度は {points} 変わります。",
    ),
    "next": ("Next step", "次の一歩"),
    "next_poc": (
        "Check the bundle on the machine of the line, then run it in parallel with today's system.",
        "現場の機械でバンドルを確認し、現行システムと並行して動かしてください。",
    ),
    "next_rival": (
        "Decide whether accuracy is worth a Python environment on the line. If not, use {name}.",
        "現場に Python 環境を置いてまで精度を取るか判断してください。置かないなら{name}を使います。",
    ),
    # For the ML engineer.
    "engineer": ("For the ML engineer", "機械学習エンジニアのために"),
    "table": ("All models", "全モデル"),
    "table_how": (
        "Accuracy is the mean over trainings: {seeds}. Difference in points from dense attention in float32, "
        "paired by series and seed, 95 % interval. One window per call, one thread, interleaved calls.",
        "精度は {seeds} 回の学習の平均。差は float32 の密な注意に対するポイント（系列と乱数種で対応づけ、"
        "95 % 区間）。1 呼び出し 1 ウィンドウ、1 スレッド、交互に呼び出して測定。",
    ),
    "alone": (
        "MultiRocket-Hydra was timed by itself, in Python.",
        "MultiRocket-Hydra は Python で単独に測定しました。",
    ),
    "model": ("model", "モデル"),
    "accuracy": ("accuracy", "精度"),
    "difference": ("difference", "差"),
    "result": ("result", "結果"),
    "attention": ("attention compute", "注意計算量"),
    "ratio": ("speed", "速度比"),
    "noise": ("change by noise", "雑音による変化"),
    "streams": ("streams", "ストリーム数"),
    "weights": ("weights", "重みの数"),
    "size": ("file, kB", "ファイル kB"),
    "train": ("training, s", "学習 秒"),
    "state reference": ("reference", "基準"),
    "state not worse": ("not worse", "劣らない"),
    "state worse": ("worse", "劣る"),
    "state not shown": ("not shown", "示せない"),
    "seeds": ("Accuracy by seed", "乱数種ごとの精度"),
    "seed": ("seed {seed}", "種 {seed}"),
    "curve": ("Would more labels help?", "ラベルを増やすと良くなるか"),
    "curve_yes": (
        "{name}: yes. The last doubling of the labels gained {points}.",
        "{name}：はい。最後の倍増で {points} 向上しました。",
    ),
    "curve_no": (
        "{name}: not shown. The last doubling of the labels changed accuracy by {points}.",
        "{name}：示せません。最後の倍増による変化は {points} です。",
    ),
    "labels": ("labeled series", "ラベル付き系列"),
    "int8_none": ("int8, {name}: {reason}", "int8（{name}）：{reason}"),
    "commands": ("The command behind each figure", "各数値の元になるコマンド"),
    "by_poc": ("everything on this page", "このページのすべて"),
    "by_train": ("training, {name}", "学習（{name}）"),
    "by_evaluate": ("accuracy, noise, unknown windows", "精度・雑音・未知ウィンドウ"),
    "by_compare": ("speed against dense attention", "密な注意との速度比較"),
    "by_profile": ("latency", "応答時間"),
    "origin": ("Origin", "出所"),
    "versions": ("versions", "バージョン"),
    "machine": ("machine", "測定機"),
    "hash": ("sha256, {name}", "sha256（{name}）"),
    "data_hash": ("data, training and test", "データ（学習・テスト）"),
    "settings": ("settings", "設定"),
}
WORDS = Words(_WORDS)
text, all_texts = WORDS.text, WORDS.all_texts


def model_name(row: dict[str, Any], lang: str = "en") -> str:
    """A model to read, with its precision where that is int8."""
    return text(row["rung"], lang) + (", int8" if row["precision"] == "int8" else "")


def in_sentence(row: dict[str, Any], lang: str = "en") -> str:
    """A model as a sentence names it."""
    return text(f"the {row['rung']}", lang) + (text("in int8", lang) if row["precision"] == "int8" else "")


def points(share: dict[str, Any], lang: str = "en") -> str:
    """A difference of accuracy in points, with its interval; `share` holds points."""
    if share["low"] is None:
        return text("points_alone", lang, value=f"{share['value']:+.1f}")
    return text("points", lang, **{key: f"{share[key]:+.1f}" for key in ("value", "low", "high")})


def verdict_sentence(result: dict[str, Any], lang: str = "en") -> str:
    """Which model to use and why, of a poc's result, with the figures that it rests on."""
    verdict, models = result["verdict"], result["models"]
    row, why = models[verdict["use"]], verdict["why"]
    margin = f"{100 * verdict['margin']:g}"
    if why == "fastest":
        difference = in_points(verdict["models"][verdict["use"]]["difference"])
        ratio = f"{row['latency']['ratio']:.2f}"
        values = {"ratio": ratio, "margin": margin, "points": points(difference, lang)}
        return text("use_fastest", lang, name=in_sentence(row, lang), **values)
    if why == "better":
        gain = points(in_points(verdict["better"][verdict["use"]]), lang)
        other = in_sentence(models[verdict["fastest"]], lang)
        return text("use_better", lang, name=in_sentence(row, lang), other=other, points=gain)
    if why == "dense is fastest":
        return text("use_dense_fastest", lang)
    if all(found["state"] in ("worse", "reference") for found in verdict["models"].values()):
        return text("use_all_worse", lang)
    return text("use_none_shown", lang, n=result["data"]["test_series"], margin=margin)


def in_points(share: dict[str, Any]) -> dict[str, Any]:
    """A share, or a difference of two, times 100."""
    scaled = {key: None if share[key] is None else 100 * share[key] for key in ("value", "low", "high")}
    return {**share, **scaled}
