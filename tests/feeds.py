# ruff: noqa: E501
"""A web server with feeds, on a free port, and feeds in the shapes that the world has."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .services import free_port


class FeedServer:
    """Answers each path as told: ``server.pages["/feed"] = body`` or ``(status, headers, body)``.

    A list is one answer after the other, the last for ever; a function is called with the request
    handler. What was asked is in ``server.requests``, as (path, headers).
    """

    def __init__(self):
        self.port, self.pages, self.requests = free_port(), {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                page = outer.pages.get(self.path, (404, {}, b"nothing here"))
                if isinstance(page, list):
                    page = page.pop(0) if len(page) > 1 else page[0]
                if callable(page):
                    return page(self)
                status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
                self.answer(status, headers, body)

            def answer(self, status, headers, body):
                body = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in {"Content-Type": "application/xml", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if status != 304:
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # Clients hang up here: that is tested.

    def url(self, path="/feed"):
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True)
        self.thread.start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


def zipped(body):
    """The answer of a server that compresses."""
    return 200, {"Content-Encoding": "gzip"}, gzip.compress(body.encode())


WORDPRESS = """<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"
	xmlns:content="http://purl.org/rss/1.0/modules/content/"
	xmlns:wfw="http://wellformedweb.org/CommentAPI/"
	xmlns:dc="http://purl.org/dc/elements/1.1/"
	xmlns:atom="http://www.w3.org/2005/Atom"
	xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"
	xmlns:slash="http://purl.org/rss/1.0/modules/slash/">
<channel>
	<title>The Kettle&#8217;s Blog</title>
	<atom:link href="https://kettle.example/feed/" rel="self" type="application/rss+xml" />
	<link>https://kettle.example</link>
	<description>Tea &amp; time</description>
	<lastBuildDate>Tue, 03 Nov 2026 08:15:00 +0000</lastBuildDate>
	<language>en-GB</language>
	<sy:updatePeriod>hourly</sy:updatePeriod>
	<generator>https://wordpress.org/?v=6.8</generator>
	<item>
		<title>Why we boil water twice &#038; again</title>
		<link>https://kettle.example/2026/11/twice/</link>
		<comments>https://kettle.example/2026/11/twice/#comments</comments>
		<dc:creator><![CDATA[Polly]]></dc:creator>
		<pubDate>Tue, 03 Nov 2026 08:14:21 +0000</pubDate>
		<category><![CDATA[Water]]></category>
		<guid isPermaLink="false">https://kettle.example/?p=101</guid>
		<description><![CDATA[<p>Short [&#8230;]</p>]]></description>
		<content:encoded><![CDATA[<p>The <em>whole</em> text of *it*.</p>
<figure class="wp-block-image"><img decoding="async" src="/img/kettle.jpg" alt="A kettle"/></figure>

<pre class="wp-block-code"><code>boil()

boil()</code></pre>
]]></content:encoded>
		<slash:comments>2</slash:comments>
	</item>
	<item>
		<title>Second</title>
		<link>https://kettle.example/2026/10/second/</link>
		<pubDate>Thu, 01 Oct 2026 10:00:00 +0200</pubDate>
		<guid isPermaLink="false">https://kettle.example/?p=99</guid>
		<description><![CDATA[Only a description.]]></description>
	</item>
</channel>
</rss>
"""

GITHUB = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:media="http://search.yahoo.com/mrss/" xml:lang="en-US">
  <id>tag:github.com,2008:https://github.com/example/kettle/releases</id>
  <link type="text/html" rel="alternate" href="https://github.com/example/kettle/releases"/>
  <link type="application/atom+xml" rel="self" href="https://github.com/example/kettle/releases.atom"/>
  <title>Release notes from kettle</title>
  <updated>2026-10-30T12:00:03Z</updated>
  <entry>
    <id>tag:github.com,2008:Repository/1/v2.0</id>
    <updated>2026-10-30T12:10:11Z</updated>
    <link rel="alternate" type="text/html" href="https://github.com/example/kettle/releases/tag/v2.0"/>
    <title>v2.0: hot &amp; fast</title>
    <content type="html">&lt;h2&gt;What&#39;s new&lt;/h2&gt;&lt;ul&gt;&lt;li&gt;Steam&lt;/li&gt;&lt;/ul&gt;</content>
    <author><name>polly</name></author>
    <media:thumbnail height="30" width="30" url="https://avatars.example/u/1?s=60"/>
  </entry>
  <entry>
    <id>tag:github.com,2008:Repository/1/v1.0</id>
    <updated>2026-09-01T00:00:00Z</updated>
    <link rel="alternate" type="text/html" href="https://github.com/example/kettle/releases/tag/v1.0"/>
    <title>v1.0</title>
    <content type="text">Plain: 1 &lt; 2

Next paragraph.</content>
  </entry>
</feed>
"""

RDF = """<?xml version="1.0" encoding="ISO-8859-1"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/">
<channel rdf:about="http://alt.example/"><title>Fr\xfcher</title><link>http://alt.example/</link>
<description>RSS 1.0</description>
<items><rdf:Seq><rdf:li rdf:resource="http://alt.example/1"/></rdf:Seq></items></channel>
<item rdf:about="http://alt.example/1"><title>\xc4pfel</title><link>http://alt.example/1</link>
<description>S\xfc\xdf und gr\xfcn.</description><dc:date>2003-01-02T03:04:05+01:00</dc:date></item>
</rdf:RDF>
"""

PODCAST = """<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">
<channel><title>Kettle Talk</title><link>https://talk.example/</link><description>d</description>
<item><title>Episode 1</title><itunes:duration>00:31:10</itunes:duration>
<guid isPermaLink="false">8f4c</guid>
<enclosure url="https://cdn.example/ep1.mp3?a=1&amp;b=2" length="123" type="audio/mpeg"/>
<itunes:summary>We talk.</itunes:summary></item>
</channel></rss>
"""

HOSTILE = """<?xml version="1.0"?><rss version="2.0"><channel><title>&lt;script&gt;x&lt;/script&gt;</title>
<item><guid>1</guid><title>&lt;img src=x onerror=alert(1)&gt;Free &lt;b&gt;tea&lt;/b&gt;</title>
<link>javascript:alert(2)</link>
<description><![CDATA[<p onclick="alert(3)">Hello</p><script>alert(4)</script>
</div></div><a href="javascript:alert(5)">[x](javascript:alert(6))</a>

[y](javascript:alert(7)) <iframe src="https://evil.example"></iframe><style>*{display:none}</style>
<svg><script>alert(8)</script></svg><img src="data:text/html,alert(9)" class="button" id="main">
<form action="https://evil.example"><input name=password></form>]]></description>
<enclosure url="javascript:alert(10)" type="audio/mpeg"/></item>
</channel></rss>
"""


def rss(items, title="Feed"):
    """An RSS feed of some items, each a string of XML."""
    items = "".join(f"<item>{item}</item>" for item in items)
    return f'<rss version="2.0"><channel><title>{title}</title>{items}</channel></rss>'


def many(number, title="Entry"):
    """An RSS feed of so many entries."""
    return rss(f"<guid>{n}</guid><title>{title}</title><description>{n}</description>"
               for n in range(number))  # fmt: skip
