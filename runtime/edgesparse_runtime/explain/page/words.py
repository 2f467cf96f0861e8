"""What the page says, in English and Japanese."""

from __future__ import annotations

from edgesparse_runtime.explain.routing import DENSE_TWIN, NO_ATTENTION
from edgesparse_runtime.measure.report.words import LANGUAGES as LANGUAGES
from edgesparse_runtime.measure.report.words import Words

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Window {index}: {predicted} {score}", "ウィンドウ {index}：{predicted} {score}"),
    "title_set": ("What the model looks at: {windows} windows", "モデルが見ている箇所：{windows} ウィンドウ"),
    "output": ("output", "出力"),
    "of": ("{data}, model {bundle}.", "データ {data}、モデル {bundle}。"),
    "next": ("Next likely: {against} {score}.", "次点：{against} {score}。"),
    "sampled": (
        "{windows} of {total} windows, taken evenly.",
        "全 {total} ウィンドウから均等に選んだ {windows} 個。",
    ),
    "good": (
        "The map of influence is better than a random one.",
        "この影響度マップは、無作為な順序より有効です。",
    ),
    "bad": (
        "Do not rely on this map: it is no better than a random one.",
        "このマップに頼らないでください。無作為な順序と差がありません。",
    ),
    "influence": ("What moved the score", "スコアを動かした箇所"),
    "influence_how": (
        "Parts set to missing and the rest scored again, {predictions} predictions. Positive (blue) speaks "
        "for the prediction, negative (orange, dashed) against it. Unit: {unit}.",
        "各部分を欠損にして採点し直した結果（予測 {predictions} 回）。正（青）は予測を支持し、"
        "負（橙、破線）は予測に反します。単位：{unit}。",
    ),
    "log-odds": ("log-odds", "対数オッズ"),
    "signal": ("{name}, from {low} to {high}", "{name}（{low} ～ {high}）"),
    "steps": ("steps", "ステップ"),
    "channel": ("channel", "チャネル"),
    "value": ("influence", "影響度"),
    "against": ("against {against}", "{against} に対して"),
    "without": ("score without it", "除いたときのスコア"),
    "routing": ("What was attended to", "注意を向けた箇所"),
    "not_why": (
        "Exact: the blocks that the model computed with. This is not why it decided.",
        "正確な記録：モデルが計算に使ったブロックです。判断の理由ではありません。",
    ),
    "map": (
        "Blocks attended to in {layer}: a row per query block, a column per key block, darker = more heads.",
        "{layer} で注意を向けたブロック：行はクエリ、列はキー。濃いほど多くのヘッド。",
    ),
    "layer": ("layer", "層"),
    "head": ("head", "ヘッド"),
    "blocks": ("blocks", "ブロック"),
    "left": ("left to summaries", "要約に回した割合"),
    "diagonal": ("diagonal", "対角"),
    "window": ("window", "近傍"),
    "share": ("share", "割合"),
    "margin": ("smallest margin", "最小の差"),
    "attended": ("attended by other blocks", "他ブロックからの注意"),
    "trust": ("How far to believe it", "どこまで信頼できるか"),
    "order": (
        "The quarter of the window that the map names first moves the scores by {own}, in {orders} random "
        "orders by {random}. Difference {difference}, 95 % interval {low} to {high}.",
        "マップが先に挙げる 4 分の 1 を除くとスコアは {own} 動き、"
        "無作為な {orders} 通りの順序では {random} です。"
        "差 {difference}、95 % 区間 {low} ～ {high}。",
    ),
    "order_set": (
        "The order of influence is {mean} above random orders, 95 % interval {low} to {high}, {windows} "
        "windows.",
        "影響度の順序は無作為な順序を {mean} 上回ります（95 % 区間 {low} ～ {high}、{windows} ウィンドウ）。",
    ),
    "order_routing": (
        "The order of routing: difference {difference}, 95 % interval {low} to {high}.",
        "注意の順序：差 {difference}、95 % 区間 {low} ～ {high}。",
    ),
    "agreement": (
        "Rank correlation of routing with influence: {correlation}.",
        "注意と影響度の順位相関：{correlation}。",
    ),
    "nearest": ("What would have to be different", "何が違えば判断が変わるか"),
    "nearest_is": (
        "Nearest training window that the model calls {name}: row {row}, {distance} spreads away.",
        "モデルが {name} と判断する最も近い学習ウィンドウ：{row} 行目、距離 {distance}（標準偏差単位）。",
    ),
    "suffices": (
        "With steps {steps} taken from it, the model decides for {name} ({score}).",
        "ステップ {steps} をそれに置き換えると、モデルは {name} と判断します（{score}）。",
    ),
    "stays": (
        "Even with half of the segments taken from it, the decision stays ({name} {score}).",
        "区間の半分を置き換えても判断は変わりません（{name} {score}）。",
    ),
    "class": ("{name}: {windows} windows", "{name}：{windows} ウィンドウ"),
    "all": ("all windows", "全ウィンドウ"),
    "part": ("part of the window", "ウィンドウ内の位置"),
    "never": ("What is never looked at", "見られていない箇所"),
    "never_places": ("Parts that move no score: {found}.", "スコアを動かさない位置：{found}。"),
    "never_channels": ("Channels that move no score: {found}.", "スコアを動かさないチャネル：{found}。"),
    "never_attended": ("Parts never attended to: {found}.", "一度も注意が向かない位置：{found}。"),
    "never_none": ("Every part of the window moves some score.", "どの位置もスコアを動かしています。"),
    NO_ATTENTION: (NO_ATTENTION, "このモデルには疎な注意機構がないため、記録する注意の経路はありません。"),
    DENSE_TWIN: (
        DENSE_TWIN,
        "このウィンドウはバンドル内の密なモデルで計算され、全ブロックに注意を向けました。"
        "疎なモデルを見るには --attention sparse を指定してください。",
    ),
}
WORDS = Words(_WORDS)
text, all_texts = WORDS.text, WORDS.all_texts
