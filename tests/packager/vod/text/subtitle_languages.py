"""Lines of subtitles in more than thirty languages, and their usual encodings before UTF-8."""

# ruff: noqa: RUF001  (letters of many scripts)

from __future__ import annotations

from typing import NamedTuple


class Written(NamedTuple):
    """Lines of a language, and the encodings that its files usually have."""

    language: str
    encodings: str
    lines: tuple[str, ...]


_WEST = "cp1252 iso8859_1 iso8859_15"
_CENTRE = "cp1250 iso8859_2"
_CYRILLIC = "cp1251 koi8_r cp866 iso8859_5"
_SOUTH_SLAVIC_CYRILLIC = "cp1251 iso8859_5"

WRITTEN = tuple(
    Written(language, encodings, tuple(lines.strip().split("\n")))
    for language, encodings, lines in (
        ("ru", _CYRILLIC, """
Ты не видел мои ключи? Кажется, я их потерял.
- Поезд уходит через десять минут!
Никто не верил, что мы доберёмся до берега живыми.
Закрой дверь и выключи свет, пожалуйста.
"""),
        ("uk", "cp1251 koi8_u", """
Ти не бачив мої ключі? Здається, я їх загубив.
- Потяг вирушає за десять хвилин!
Ніхто не вірив, що ми дістанемося берега живими.
Зачини двері та вимкни світло, будь ласка.
"""),
        ("bg", _SOUTH_SLAVIC_CYRILLIC, """
Виждал ли си ключовете ми? Мисля, че ги загубих.
- Влакът тръгва след десет минути!
Никой не вярваше, че ще стигнем до брега живи.
Затвори вратата и изгаси лампата, моля те.
"""),
        ("be", _SOUTH_SLAVIC_CYRILLIC, """
Ты не бачыў мае ключы? Здаецца, я іх згубіў.
- Цягнік адпраўляецца праз дзесяць хвілін!
Ніхто не верыў, што мы дабяромся да берага жывымі.
Зачыні дзверы і выключы святло, калі ласка.
"""),
        ("sr", _SOUTH_SLAVIC_CYRILLIC, """
Јеси ли видео моје кључеве? Мислим да сам их изгубио.
- Воз полази за десет минута!
Нико није веровао да ћемо живи стићи до обале.
Затвори врата и угаси светло, молим те.
"""),
        ("mk", _SOUTH_SLAVIC_CYRILLIC, """
Дали ги виде моите клучеви? Мислам дека ги изгубив.
- Возот тргнува за десет минути!
Никој не веруваше дека ќе стигнеме живи до брегот.
Затвори ја вратата и изгасни го светлото, те молам.
"""),
        ("el", "cp1253 iso8859_7", """
Μήπως είδες τα κλειδιά μου; Νομίζω πως τα έχασα.
- Το τρένο φεύγει σε δέκα λεπτά!
Κανείς δεν πίστευε ότι θα φτάναμε ζωντανοί στην ακτή.
Κλείσε την πόρτα και σβήσε το φως, σε παρακαλώ.
"""),
        ("pl", _CENTRE, """
Nie widziałeś moich kluczy? Chyba je zgubiłem.
- Pociąg odjeżdża za dziesięć minut!
Nikt nie wierzył, że dotrzemy żywi do brzegu.
Zamknij drzwi i zgaś światło, proszę.
"""),
        ("cs", _CENTRE, """
Neviděl jsi moje klíče? Asi jsem je ztratil.
- Vlak odjíždí za deset minut!
Nikdo nevěřil, že se dostaneme živí ke břehu.
Zavři dveře a zhasni světlo, prosím tě.
"""),
        ("sk", _CENTRE, """
Nevidel si moje kľúče? Asi som ich stratil.
- Vlak odchádza o desať minút!
Nikto neveril, že sa dostaneme živí k brehu.
Zatvor dvere a zhasni svetlo, prosím ťa.
"""),
        ("hu", _CENTRE, """
Nem láttad a kulcsaimat? Azt hiszem, elvesztettem őket.
- A vonat tíz perc múlva indul!
Senki sem hitte, hogy élve elérjük a partot.
Csukd be az ajtót, és oltsd le a villanyt, légy szíves. Gyűlölöm a fényt.
"""),
        ("sl", _CENTRE, """
Si videl moje ključe? Mislim, da sem jih izgubil.
- Vlak odpelje čez deset minut!
Nihče ni verjel, da bomo živi prišli do obale.
Zapri vrata in ugasni luč, če hočeš. Življenje je težko, še enkrat.
"""),
        ("hr", _CENTRE, """
Jesi li vidio moje ključeve? Mislim da sam ih izgubio.
- Vlak kreće za deset minuta!
Nitko nije vjerovao da ćemo živi stići do obale.
Zatvori vrata i ugasi svjetlo, možeš li? Još uvijek te čekam, dođi.
"""),
        ("ro", _CENTRE, """
Nu mi-ai văzut cheile? Cred că le-am pierdut.
- Trenul pleacă în zece minute!
Nimeni nu credea că vom ajunge vii la ţărm.
Închide uşa şi stinge lumina, te rog. Mâine începe şcoala.
"""),
        ("tr", "cp1254 iso8859_9", """
Anahtarlarımı gördün mü? Sanırım onları kaybettim.
- Tren on dakika içinde kalkıyor!
Kıyıya sağ salim ulaşacağımıza kimse inanmıyordu.
Kapıyı kapat ve ışığı söndür, lütfen. İyi geceler, şimdi uyu.
"""),
        ("he", "cp1255 iso8859_8", """
ראית את המפתחות שלי? נדמה לי שאיבדתי אותם.
- הרכבת יוצאת בעוד עשר דקות!
אף אחד לא האמין שנגיע בחיים אל החוף.
סגור את הדלת וכבה את האור, בבקשה.
"""),
        ("ar", "cp1256 iso8859_6", """
هل رأيت مفاتيحي؟ أظن أنني أضعتها.
- سيغادر القطار بعد عشر دقائق!
لم يصدق أحد أننا سنصل إلى الشاطئ أحياء.
أغلق الباب وأطفئ النور من فضلك.
"""),
        ("fa", "cp1256", """
كليدهاي من را نديدي؟ فكر مي‌كنم گمشان كرده‌ام.
- قطار تا ده دقيقه ديگر حركت مي‌كند!
هيچ كس باور نمي‌كرد كه زنده به ساحل برسيم.
لطفا در را ببند و چراغ را خاموش كن. پدر چه گفت؟
"""),
        ("th", "cp874 tis_620", """
เห็นกุญแจของฉันไหม ฉันคิดว่าทำมันหายไปแล้ว
- รถไฟจะออกในอีกสิบนาที
ไม่มีใครเชื่อว่าเราจะไปถึงฝั่งได้อย่างปลอดภัย
ช่วยปิดประตูและดับไฟด้วยนะ
"""),
        ("vi", "cp1258", """
Anh có thấy chìa khóa của tôi không? Hình như tôi làm mất rồi.
- Mười phút nữa tàu sẽ chạy!
Không ai tin rằng chúng ta sẽ sống sót về tới bờ.
Đóng cửa và tắt đèn đi, làm ơn.
"""),
        ("ja", "cp932 euc_jp iso2022_jp", """
私の鍵を見なかった？ なくしたみたいなんだ。
列車は十分後に出発します！
生きて岸に着けるとは誰も信じていなかった。
ドアを閉めて電気を消してください。
"""),
        ("ko", "cp949 euc_kr", """
내 열쇠 못 봤어요? 잃어버린 것 같아요.
- 기차가 십 분 뒤에 출발합니다!
우리가 살아서 해안에 닿으리라고는 아무도 믿지 않았다.
문을 닫고 불을 꺼 주세요.
"""),
        ("zh", "gb18030 gb2312", """
你看见我的钥匙了吗？我想我把它们弄丢了。
火车十分钟后就要开了！
没有人相信我们能活着回到岸边。
请把门关上，再把灯关掉。
"""),
        ("zh-TW", "big5 big5hkscs", """
你看見我的鑰匙了嗎？我想我把它們弄丟了。
火車十分鐘後就要開了！
沒有人相信我們能活著回到岸邊。
請把門關上，再把燈關掉。
"""),
        ("de", _WEST, """
Hast du meine Schlüssel gesehen? Ich glaube, ich habe sie verloren.
- Der Zug fährt in zehn Minuten ab!
Niemand glaubte, dass wir lebend die Küste erreichen würden.
Schließ die Tür und mach das Licht aus, hörst du?
"""),
        ("fr", _WEST, """
Tu n'as pas vu mes clés ? Je crois que je les ai perdues.
- Le train part dans dix minutes, dépêche-toi !
Personne ne croyait que nous arriverions vivants à la côte.
Ferme la porte et éteins la lumière, s'il te plaît. Ça va être long.
"""),
        ("es", _WEST, """
¿Has visto mis llaves? Creo que las perdí.
- ¡El tren sale dentro de diez minutos!
Nadie creía que llegaríamos vivos a la costa.
Cierra la puerta y apaga la luz, por favor. Mañana será otro día.
"""),
        ("it", _WEST, """
Hai visto le mie chiavi? Credo di averle perse, perché non le trovo più.
- Il treno parte fra dieci minuti!
Nessuno credeva che saremmo arrivati vivi laggiù. È finita.
Chiudi la porta e spegni la luce, così dormiremo.
"""),
        ("pt", _WEST, """
Você viu as minhas chaves? Acho que as perdi.
- O trem parte em dez minutos, não demore!
Ninguém acreditava que chegaríamos vivos à costa.
Feche a porta e apague a luz, por favor. Amanhã começa a estação.
"""),
        ("nl", _WEST, """
Heb je mijn sleutels gezien? Ik geloof dat ik ze verloren ben.
- De trein vertrekt over één minuut!
Niemand geloofde dat we levend de kust zouden bereiken, hè.
Doe de deur dicht en het licht uit, alsjeblieft. Financiële problemen, zo'n knaap in België.
"""),
        ("da", _WEST, """
Har du set mine nøgler? Jeg tror, jeg har tabt dem på gaden.
- Toget kører om ti minutter!
Ingen troede, at vi ville nå levende til kysten.
Luk døren, og sluk lyset, når du går.
"""),
        ("no", _WEST, """
Har du sett nøklene mine? Jeg tror jeg har mistet dem på veien.
- Toget går om ti minutter!
Ingen trodde at vi ville nå levende fram til kysten.
Lukk døra og slå av lyset, er du snill. Det er så kaldt her.
"""),
        ("sv", _WEST, """
Har du sett mina nycklar? Jag tror att jag har tappat dem.
- Tåget går om tio minuter!
Ingen trodde att vi skulle nå kusten levande.
Stäng dörren och släck ljuset, är du snäll.
"""),
        ("fi", _WEST, """
Oletko nähnyt avaimiani? Luulen, että hukkasin ne.
- Juna lähtee kymmenen minuutin päästä!
Kukaan ei uskonut, että pääsisimme elävinä rannalle.
Sulje ovi ja sammuta valo, ole hyvä. Hyvää yötä.
"""),
        ("is", _WEST, """
Hefurðu séð lyklana mína? Ég held að ég hafi týnt þeim.
- Lestin fer eftir tíu mínútur!
Enginn trúði því að við næðum lifandi að ströndinni.
Lokaðu dyrunum og slökktu ljósið, gerðu það.
"""),
        ("ca", _WEST, """
Has vist les meves claus? Em sembla que les he perdut, això és així.
- El tren surt d'aquí a deu minuts!
Ningú no es creia que arribaríem vius a la costa.
Tanca la porta i apaga el llum, si us plau. Demà serà un altre dia, què hi farem.
"""),
        ("et", "cp1257 iso8859_13", """
Kas sa minu võtmeid nägid? Ma vist kaotasin need ära.
- Rong väljub kümne minuti pärast!
Keegi ei uskunud, et me elusalt randa jõuame.
Pane uks kinni ja kustuta tuli, palun. Külm öö, õhk on jäine.
"""),
        ("lv", "cp1257 iso8859_13", """
Vai tu redzēji manas atslēgas? Man šķiet, ka es tās pazaudēju.
- Vilciens atiet pēc desmit minūtēm!
Neviens neticēja, ka mēs dzīvi sasniegsim krastu.
Aizver durvis un izslēdz gaismu, lūdzu.
"""),
        ("lt", "cp1257 iso8859_13", """
Ar nematei mano raktų? Manau, kad juos pamečiau.
- Traukinys išvyksta po dešimties minučių!
Niekas netikėjo, kad gyvi pasieksime krantą.
Uždaryk duris ir išjunk šviesą, prašau.
"""),
    )
)  # fmt: skip
